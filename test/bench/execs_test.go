package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// execs counts what some processes and their descendants execute, without being in anybody's way: by
// the kernel's connector of process events, connector.rst and cn_proc.h.
type execs struct {
	socket *os.File
	done   chan struct{}
	// family are the processes; only read has it.
	family map[uint32]bool

	mu   sync.Mutex
	seen []seen
	lost bool
}

// seen is a program that was executed.
type seen struct {
	at      time.Time
	program string
}

// goneProgram stands for one that had ended before it was looked at.
const goneProgram = "(gone)"

// Of cn_proc.h and connector.h.
const (
	cnProc, listenToAll             = 1, 1
	forkEvent, execEvent, exitEvent = 1, 2, 1 << 31
	// Where in a message the event's kind is, and what it is about, after the headers of netlink
	// and connector.
	eventAt, aboutAt = unix.NLMSG_HDRLEN + 20, unix.NLMSG_HDRLEN + 20 + 16
)

// watchExecs counts what processes execute from now on. It is nil where the kernel has no such events.
func watchExecs(b *testing.B, pids ...int) *execs {
	b.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_CONNECTOR)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: cnProc})
	}
	if err == nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
		message := make([]byte, unix.NLMSG_HDRLEN+20+4)
		native := binary.NativeEndian
		native.PutUint32(message, uint32(len(message)))
		native.PutUint16(message[4:], unix.NLMSG_DONE)
		native.PutUint32(message[unix.NLMSG_HDRLEN:], cnProc)
		native.PutUint32(message[unix.NLMSG_HDRLEN+4:], cnProc)
		native.PutUint16(message[unix.NLMSG_HDRLEN+16:], 4)
		native.PutUint32(message[unix.NLMSG_HDRLEN+20:], listenToAll)
		err = unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		b.Logf("what is executed is not counted: process events: %v", err)
		return nil
	}
	x := &execs{socket: os.NewFile(uintptr(fd), "process events"), done: make(chan struct{}), family: map[uint32]bool{}}
	for _, pid := range pids {
		x.family[uint32(pid)] = true
	}
	go x.read()
	b.Cleanup(func() {
		_ = x.socket.Close()
		<-x.done
		if x.lost {
			b.Log("the kernel's events came faster than they were read: some executions were not counted")
		}
	})
	return x
}

func (x *execs) read() {
	defer close(x.done)
	buffer := make([]byte, 4096)
	for {
		n, err := x.socket.Read(buffer)
		if errors.Is(err, unix.ENOBUFS) {
			x.lost = true
			continue
		}
		if err != nil {
			return
		}
		if n < aboutAt+16 {
			continue
		}
		about := func(i int) uint32 { return binary.NativeEndian.Uint32(buffer[aboutAt+4*i:]) }
		switch binary.NativeEndian.Uint32(buffer[eventAt:]) {
		case forkEvent:
			if parent, child := about(1), about(3); x.family[parent] {
				x.family[child] = true
			}
		case execEvent:
			if pid := about(1); x.family[pid] {
				x.look(pid)
			}
		case exitEvent:
			if thread, pid := about(0), about(1); thread == pid {
				delete(x.family, pid)
			}
		}
	}
}

// look finds out what a process has executed.
func (x *execs) look(pid uint32) {
	now, dir := time.Now(), fmt.Sprintf("/proc/%d", pid)
	program := goneProgram
	if line, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil && len(line) > 0 {
		args := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
		e := Execution{Name: filepath.Base(args[0]), Args: args[1:]}
		if environment, err := os.ReadFile(filepath.Join(dir, "environ")); err == nil {
			_, rest, _ := bytes.Cut(append([]byte{0}, environment...), []byte("\x00CNI_COMMAND="))
			command, _, _ := bytes.Cut(rest, []byte{0})
			e.CNI = string(command)
		}
		program = e.Program()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seen = append(x.seen, seen{now, program})
}

// between are the programs that were executed in a time.
func (x *execs) between(from, to time.Time) (programs []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, s := range x.seen {
		if !s.at.Before(from) && s.at.Before(to) {
			programs = append(programs, s.program)
		}
	}
	return programs
}
