package notify

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confined is a thread under a filter that reports swapoff.
type confined struct {
	fd    int
	calls chan struct{}
	// results has the error of each call.
	results chan unix.Errno
	ended   chan struct{}
}

// confine starts a thread. It makes a call for each value in calls, and ends with it.
func confine(t *testing.T) *confined {
	t.Helper()
	c := &confined{calls: make(chan struct{}), results: make(chan unix.Errno, 1), ended: make(chan struct{})}
	made := make(chan unix.Errno)
	go c.run(c.calls, made)
	if errno := <-made; errno != 0 {
		t.Fatalf("install a filter: %v", errno)
	}
	t.Cleanup(func() {
		c.end()
		<-c.ended
	})
	return c
}

// run is the thread.
func (c *confined) run(calls <-chan struct{}, made chan<- unix.Errno) {
	// Never unlocked: the thread, and its filter, end with the goroutine.
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The process's first thread cannot end. Nothing runs on it after this goroutine.
		go c.run(calls, made)
		return
	}
	defer close(c.ended)
	fd, errno := filter()
	c.fd = fd
	made <- errno
	if errno != 0 {
		return
	}
	for range calls {
		_, _, errno := unix.Syscall(unix.SYS_SWAPOFF, 0, 0, 0)
		c.results <- errno
	}
}

// end lets the thread end.
func (c *confined) end() {
	if c.calls != nil {
		close(c.calls)
		c.calls = nil
	}
}

// filter installs the filter for the calling thread.
func filter() (int, unix.Errno) {
	const userNotif, allow = 0x7fc00000, 0x7fff0000
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: unix.SYS_SWAPOFF},
		{Code: unix.BPF_RET | unix.BPF_K, K: userNotif},
		{Code: unix.BPF_RET | unix.BPF_K, K: allow},
	}
	if _, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return -1, errno
	}
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&fprog)))
	return int(fd), errno
}

// call makes a call, and returns its error.
func (c *confined) call() unix.Errno {
	c.calls <- struct{}{}
	return <-c.results
}

// serve answers in the background.
func serve(d *Descriptor, answer Answer) (ended chan error) {
	ended = make(chan error, 1)
	go func() { ended <- d.Serve(new(sync.RWMutex), new(Pace), answer) }()
	return ended
}

func mustOpen(t *testing.T, fd int) *Descriptor {
	t.Helper()
	d, err := Open(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// Each call gets its answer.
func TestServe(t *testing.T) {
	c := confine(t)
	var mu sync.Mutex
	var seen []Call
	answers := []unix.Errno{unix.EPERM, unix.ENOSYS, 0, 4094}
	serve(mustOpen(t, c.fd), func(call Call, _ bool) uint32 {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, call)
		return uint32(answers[len(seen)-1])
	})
	for i, want := range answers {
		if got := c.call(); got != want {
			t.Errorf("call %d got the error %d, want %d", i, got, want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, call := range seen {
		if call.Number != unix.SYS_SWAPOFF || call.Arch == 0 {
			t.Errorf("the call is %+v", call)
		}
	}
}

// The descriptor ends with the last process.
func TestServeEnds(t *testing.T) {
	c := confine(t)
	ended := serve(mustOpen(t, c.fd), func(Call, bool) uint32 { return uint32(unix.EPERM) })
	c.end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A call that nobody answers is answered by the kernel once nobody can: a monitor's end holds up no
// container.
func TestCloseAnswers(t *testing.T) {
	for name, during := range map[string]bool{"not read": false, "read, not answered": true} {
		t.Run(name, func(t *testing.T) {
			c := confine(t)
			d := mustOpen(t, c.fd)
			c.calls <- struct{}{}
			for ready := false; !ready; runtime.Gosched() {
				ready, _, _ = poll(c.fd)
			}
			if during {
				var call notification
				if errno := ioctl(uintptr(c.fd), unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&call)); errno != 0 {
					t.Fatal(errno)
				}
			}
			d.Close()
			if got := <-c.results; got != unix.ENOSYS {
				t.Errorf("the call got the error %v", got)
			}
			if got := c.call(); got != unix.ENOSYS {
				t.Errorf("a later call got the error %v", got)
			}
		})
	}
}

// Calls of the runtime, before it executes another program, are told from those after it.
func TestOfRuntime(t *testing.T) {
	// A subshell is forked and executes nothing, as the last process of a runtime.
	shell := exec.Command("sh", "-c", "(echo; read x; exec sleep 1000); :")
	stdin, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = shell.Wait() }()
	defer func() { _ = shell.Process.Kill() }()
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", shell.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	first, err := strconv.Atoi(strings.TrimSpace(string(children)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Kill(first, unix.SIGKILL) }()
	d := &Descriptor{runtime: first}
	for range 2 {
		if !d.ofRuntime(first) {
			t.Error("a call of the runtime is taken for one of the container")
		}
	}
	if d.ofRuntime(shell.Process.Pid) {
		t.Error("a call of another process is taken for one of the runtime")
	}
	if d.ofRuntime(first) {
		t.Error("a container can go back to the runtime's calls")
	}
	if _, err := stdin.Write([]byte("go on\n")); err != nil {
		t.Fatal(err)
	}
	program := func() string {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", first))
		return strings.TrimSpace(string(name))
	}
	for program() != "sleep" {
		time.Sleep(time.Millisecond)
	}
	// The descriptor arrived late.
	if d := (&Descriptor{runtime: first}); d.ofRuntime(first) {
		t.Error("a call of the container's program is taken for one of the runtime")
	}
}

// The threads of a container's first process are no runtime's, although each was forked.
func TestThreadsAreNotOfRuntime(t *testing.T) {
	c := confine(t)
	d := mustOpen(t, c.fd)
	d.runtime = os.Getpid()
	var ofRuntime atomic.Bool
	serve(d, func(_ Call, of bool) uint32 {
		ofRuntime.Store(of)
		return uint32(unix.EPERM)
	})
	if c.call(); ofRuntime.Load() {
		t.Error("a thread's call is taken for one of the runtime")
	}
}

// A program that takes over a copy goes on where this one stopped.
func TestDuplicate(t *testing.T) {
	c := confine(t)
	d := mustOpen(t, c.fd)
	twin, err := d.Duplicate()
	if err != nil {
		t.Fatal(err)
	}
	ended := serve(d, func(Call, bool) uint32 { return uint32(unix.EACCES) })
	if got := c.call(); got != unix.EACCES {
		t.Errorf("the call got the error %v", got)
	}
	d.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	serve(mustOpen(t, twin), func(Call, bool) uint32 { return uint32(unix.EBUSY) })
	if got := c.call(); got != unix.EBUSY {
		t.Errorf("the call got the error %v", got)
	}
}

// No call is read at rest.
func TestRest(t *testing.T) {
	c := confine(t)
	var rest sync.RWMutex
	var resting, answered atomic.Bool
	rest.Lock()
	resting.Store(true)
	go func() {
		_ = mustOpen(t, c.fd).Serve(&rest, new(Pace), func(Call, bool) uint32 {
			answered.Store(!resting.Load())
			return uint32(unix.EPERM)
		})
	}()
	c.calls <- struct{}{}
	for ready := false; !ready; runtime.Gosched() {
		ready, _, _ = poll(c.fd)
	}
	resting.Store(false)
	rest.Unlock()
	if got := <-c.results; got != unix.EPERM || !answered.Load() {
		t.Errorf("the call got the error %v, after the rest: %v", got, answered.Load())
	}
}

// Anything but a filter's descriptor is refused, and closed.
func TestOpenRefuses(t *testing.T) {
	for name, open := range map[string]func() (int, error){
		"a file":        func() (int, error) { return unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0) },
		"an eventfd":    func() (int, error) { return unix.Eventfd(0, unix.EFD_CLOEXEC) },
		"a socket":      func() (int, error) { return unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) },
		"no descriptor": func() (int, error) { return 1 << 20, nil },
	} {
		fd, err := open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(fd); err == nil || name != "no descriptor" && !errors.Is(err, ErrNoFilter) {
			t.Errorf("%s: %v", name, err)
		}
		var st syscall.Stat_t
		if syscall.Fstat(fd, &st) == nil {
			t.Errorf("%s: it is still open", name)
		}
	}
}

func TestPace(t *testing.T) {
	var p Pace
	now := time.Unix(1000, 0)
	for i := range maxRate {
		if wait := p.Delay(now); wait != 0 {
			t.Fatalf("call %d must wait %v", i, wait)
		}
	}
	if wait := p.Delay(now); wait != time.Second/maxRate {
		t.Errorf("one call above the rate waits %v", wait)
	}
	if wait := p.Delay(now.Add(time.Second)); wait != 0 {
		t.Errorf("a second later a call waits %v", wait)
	}
	// In the long run, no more than the rate.
	p = Pace{}
	at := now
	for range 5 * maxRate {
		at = at.Add(p.Delay(at))
	}
	if took := at.Sub(now); took < 3900*time.Millisecond || took > 4100*time.Millisecond {
		t.Errorf("%d calls take %v", 5*maxRate, took)
	}
}
