package wire

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// pair returns both ends of a connection.
func pair(t *testing.T) (client, server *Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = Dial(path); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func TestDescriptorsStayWithTheirFrame(t *testing.T) {
	client, server := pair(t)
	for i := range 3 {
		var fds []int
		for range i {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			fds = append(fds, int(r.Fd()))
		}
		if err := client.Send(&pb.Request{Id: uint64(i + 1)}, fds...); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		req := new(pb.Request)
		fds, err := server.Receive(req)
		if err != nil || req.Id != uint64(i+1) || len(fds) != i {
			t.Errorf("frame %d is %v with descriptors %v, %v", i, req, fds, err)
		}
		for _, fd := range fds {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("descriptor %d would be inherited (%v)", fd, err)
			}
		}
		closeAll(fds)
	}
	client.Close()
	if _, err := server.Receive(new(pb.Request)); !errors.Is(err, io.EOF) {
		t.Errorf("the end gave %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	client, server := pair(t)
	big := &pb.Request{Call: &pb.Request_Hello{Hello: &pb.Hello{Build: strings.Repeat("x", MaxFrame)}}}
	if err := client.Send(big); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a frame that is too large gave %v", err)
	}
	if err := client.Send(&pb.Request{Id: 1}, make([]int, MaxDescriptors+1)...); err == nil {
		t.Error("too many descriptors were sent")
	}
	// From a sender that does not check.
	err := client.raw.Write(func(fd uintptr) bool {
		_, err := unix.Write(int(fd), make([]byte, MaxFrame+2))
		if err != nil {
			t.Error(err)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Receive(new(pb.Request)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("the other side got %v", err)
	}
}

func TestNonsense(t *testing.T) {
	client, server := pair(t)
	err := client.raw.Write(func(fd uintptr) bool {
		_, err := unix.Write(int(fd), []byte("\xff\xff\xff nonsense"))
		if err != nil {
			t.Error(err)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Receive(new(pb.Request)); err == nil {
		t.Error("nonsense was understood")
	}
}

// Many senders, and a receiver that lets the socket's buffer fill up.
func TestManySenders(t *testing.T) {
	client, server := pair(t)
	const senders, frames = 8, 200
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for range frames {
				m := &pb.Request{Call: &pb.Request_Hello{Hello: &pb.Hello{Build: strings.Repeat("x", 10000)}}}
				if err := client.Send(m); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range senders * frames {
		req := new(pb.Request)
		if _, err := server.Receive(req); err != nil || len(req.GetHello().GetBuild()) != 10000 {
			t.Fatalf("got %d bytes, %v", len(req.GetHello().GetBuild()), err)
		}
	}
	wg.Wait()
}

func TestCloseWakes(t *testing.T) {
	client, _ := pair(t)
	done := make(chan error)
	go func() {
		_, err := client.Receive(new(pb.Request))
		done <- err
	}()
	client.Close()
	if err := <-done; err == nil {
		t.Error("Receive succeeded")
	}
}
