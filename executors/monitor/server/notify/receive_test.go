package notify

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// send gives Receive a message with descriptors, in pieces, and returns what it says.
func send(t testing.TB, pieces [][]byte, fds ...int) (*Descriptor, error) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		runtime := os.NewFile(uintptr(pair[1]), "runtime")
		defer runtime.Close()
		raw, _ := runtime.SyscallConn()
		for i, piece := range pieces {
			var oob []byte
			if i == 0 && len(fds) > 0 {
				oob = unix.UnixRights(fds...)
			}
			var n int
			_ = raw.Write(func(fd uintptr) bool {
				var err error
				n, err = unix.SendmsgN(int(fd), piece, oob, nil, unix.MSG_NOSIGNAL)
				return err != unix.EAGAIN
			})
			if n > 0 && n < len(piece) {
				_, _ = runtime.Write(piece[n:])
			}
		}
	}()
	d, err := Receive(pair[0], "c1")
	<-sent
	return d, err
}

// whole is a message of one piece.
func whole(s string) [][]byte { return [][]byte{[]byte(s)} }

const good = `{"ociVersion":"1.2.0","fds":["seccompFd"],"pid":99999999,"metadata":"","state":{"ociVersion":"1.2.0","id":"c1","status":"creating","bundle":"/b"}}`

// descriptors lists what is open.
func descriptors(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]string{}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(to, "/proc/") {
			open[e.Name()] = to
		}
	}
	return open
}

func TestReceive(t *testing.T) {
	c := confine(t)
	// The annotations make it long, and it comes in pieces.
	long := strings.Replace(good, `"id":"c1"`, `"annotations":{"a":"`+strings.Repeat("x", 1<<20)+`"},"id":"c1"`, 1)
	for name, pieces := range map[string][][]byte{
		"one piece": whole(good), "two pieces": {[]byte(good[:20]), []byte(good[20:])}, "long": whole(long), "with a line's end": whole(good + "\n"),
	} {
		twin, err := unix.Dup(c.fd)
		if err != nil {
			t.Fatal(err)
		}
		d, err := send(t, pieces, twin)
		unix.Close(twin)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ended := serve(d, func(Call, bool) uint32 { return uint32(unix.EPERM) })
		if got := c.call(); got != unix.EPERM {
			t.Errorf("%s: a call got the error %v", name, got)
		}
		d.Close()
		<-ended
	}
	// With others beside it, which are closed.
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	before := descriptors(t)
	d, err := send(t, whole(strings.Replace(good, `["seccompFd"]`, `["other","seccompFd"]`, 1)), int(file.Fd()), c.fd)
	if err != nil {
		t.Fatal(err)
	}
	if after := descriptors(t); len(after) != len(before)+1 {
		t.Errorf("before: %v\nafter: %v", before, after)
	}
	d.Close()
}

// Whatever arrives that is not one container's filter is refused, and no descriptor stays open.
func TestReceiveHostile(t *testing.T) {
	c := confine(t)
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	filter, null := c.fd, int(file.Fd())
	many := make([]int, maxDescriptors+1)
	for i := range many {
		many[i] = null
	}
	named := func(names string) string { return strings.Replace(good, `"seccompFd"`, names, 1) }
	for name, tc := range map[string]struct {
		message string
		fds     []int
		want    string
	}{
		"nothing":              {"", nil, "EOF"},
		"no JSON":              {"hello", []int{filter}, "invalid character"},
		"half":                 {good[:40], []int{filter}, "EOF"},
		"another type":         {`{"fds":7}`, []int{filter}, "fds"},
		"another container":    {strings.Replace(good, "c1", "c2", 1), []int{filter}, `"c2"`},
		"no container":         {`{"fds":["seccompFd"]}`, []int{filter}, `""`},
		"none came":            {good, nil, "0 came"},
		"none is named":        {named(""), []int{filter}, "0 are named"},
		"another name":         {named(`"other"`), []int{filter}, "number 0"},
		"two have the name":    {named(`"seccompFd","seccompFd"`), []int{filter, null}, "two are named"},
		"more came":            {good, []int{filter, null}, "2 came"},
		"more are named":       {named(`"seccompFd","other"`), []int{filter}, "1 came, 2 are named"},
		"it is something else": {good, []int{null}, ErrNoFilter.Error()},
		"too many":             {good, many, "more than 16"},
		"too long":             {`{"x":"` + strings.Repeat("x", maxState) + `"}`, []int{filter}, "longer"},
		"deep":                 {strings.Repeat(`{"x":`, 1<<16), []int{filter}, "depth"},
		"hostile id":           {strings.Replace(good, "c1", strings.Repeat(`\n`, 1000), 1), []int{filter}, `\n`},
	} {
		t.Run(name, func(t *testing.T) {
			before := descriptors(t)
			_, err := send(t, whole(tc.message), tc.fds...)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the error is %v, want one with %q", err, tc.want)
			}
			if err != nil && (len(err.Error()) > 400 || strings.Contains(err.Error(), "\n")) {
				t.Errorf("the error is %q", err)
			}
			if after := descriptors(t); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("open before: %v\nafter: %v", before, after)
			}
		})
	}
}

// Any bytes are refused or understood; nothing crashes, and nothing stays open.
func FuzzReceive(f *testing.F) {
	f.Add([]byte(good), uint8(1))
	f.Add([]byte(`{"fds":["seccompFd","x"],"state":{"id":"c1"}}`), uint8(2))
	f.Fuzz(func(t *testing.T, message []byte, n uint8) {
		file, err := os.Open("/dev/null")
		if err != nil {
			t.Skip()
		}
		defer file.Close()
		fds := bytes.Repeat([]byte{1}, int(n%20))
		given := make([]int, len(fds))
		for i := range given {
			given[i] = int(file.Fd())
		}
		if d, err := send(t, [][]byte{message}, given...); err == nil {
			d.Close()
			t.Error("a descriptor of /dev/null was taken for a filter's")
		}
	})
}
