package notify

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Call is a system call: the convention by which it was made (AUDIT_ARCH_* of linux/audit.h), and
// its number there.
type Call struct {
	Arch   uint32
	Number int32
}

// Answer returns the error number for a call; 0 for success. It must not block. The runtime makes
// some calls itself before it executes what it was asked to: it tries what newer kernels can, and
// goes on without.
type Answer func(call Call, ofRuntime bool) uint32

// The kernel's messages, linux/seccomp.h: struct seccomp_notif and seccomp_notif_resp, with room
// for what later kernels may add.
type (
	notification struct {
		id         uint64
		pid, flags uint32
		number     int32
		arch       uint32
		pointer    uint64
		args       [6]uint64
		_          [room - 80]byte
	}
	response struct {
		id    uint64
		value int64
		error int32
		flags uint32
		_     [room - 24]byte
	}
)

// room is the size of each message, in bytes.
const room = 512

// link is where /proc/self/fd leads for a descriptor of a seccomp filter.
const link = "anon_inode:seccomp notify"

// ErrNoFilter: a descriptor is not one of a seccomp filter.
var ErrNoFilter = errors.New("it is not the descriptor of a seccomp filter")

// Descriptor reports the calls of all processes with one filter.
type Descriptor struct {
	number int
	file   *os.File
	raw    syscall.RawConn
	// runtime is the filter's first process until it executes the container's program; 0 from
	// then on.
	runtime int
	// closed is closed by Close.
	closed    chan struct{}
	closeOnce sync.Once
}

// Open takes over fd. On an error it is closed.
func Open(fd int) (*Descriptor, error) {
	to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err == nil && to != link {
		err = fmt.Errorf("%w: %.80q", ErrNoFilter, to)
	}
	if err == nil {
		err = checkSizes()
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("use the descriptor of a seccomp filter: %w", err)
	}
	d := &Descriptor{number: fd, file: os.NewFile(uintptr(fd), "seccomp filter"), closed: make(chan struct{})}
	if d.raw, err = d.file.SyscallConn(); err != nil {
		d.file.Close()
		return nil, fmt.Errorf("use the descriptor of a seccomp filter: %w", err)
	}
	return d, nil
}

// checkSizes asks the kernel how large its messages are: it writes them whole.
func checkSizes() error {
	var sizes struct{ notification, response, data uint16 }
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&sizes)))
	if errno != 0 {
		return fmt.Errorf("ask for the size of its messages: %w", errno)
	}
	if sizes.notification > room || sizes.response > room {
		return fmt.Errorf("the kernel's messages have %d and %d bytes, more than %d", sizes.notification, sizes.response, room)
	}
	return nil
}

// Close ends Serve. If there is no other copy of the descriptor, the kernel answers from now on.
func (d *Descriptor) Close() {
	d.closeOnce.Do(func() {
		close(d.closed)
		d.file.Close()
	})
}

// Duplicate returns a copy of the descriptor.
func (d *Descriptor) Duplicate() (int, error) {
	twin := -1
	err := d.raw.Control(func(fd uintptr) {
		twin, _ = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3)
	})
	if err == nil && twin < 0 {
		err = errors.New("no descriptor is free")
	}
	if err != nil {
		return -1, fmt.Errorf("duplicate the descriptor of a seccomp filter: %w", err)
	}
	return twin, nil
}

// Serve answers each call until the last process with the filter has ended or Close was called. It
// calls answer before the process goes on. While the program is at rest, no call is read and none waits for the
// answer to what was read: rest is held for reading in between.
func (d *Descriptor) Serve(rest *sync.RWMutex, pace *Pace, answer Answer) error {
	for {
		var ended bool
		var failed error
		err := d.raw.Read(func(fd uintptr) bool {
			rest.RLock()
			defer rest.RUnlock()
			var ready bool
			ready, ended, failed = poll(int(fd))
			if ready {
				failed = d.one(fd, answer)
			}
			return ready || ended || failed != nil
		})
		switch {
		case ended, d.isClosed():
			return nil
		case err != nil || failed != nil:
			return fmt.Errorf("read the calls of a seccomp filter: %w", errors.Join(err, failed))
		}
		if wait := pace.Delay(time.Now()); wait > 0 {
			select {
			case <-time.After(wait):
			case <-d.closed:
				return nil
			}
		}
	}
}

func (d *Descriptor) isClosed() bool {
	select {
	case <-d.closed:
		return true
	default:
		return false
	}
}

// poll reports whether a call waits, or none will come any more.
func poll(fd int) (ready, ended bool, err error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		_, err = unix.Poll(fds, 0)
		if err != unix.EINTR {
			break
		}
	}
	ready = fds[0].Revents&unix.POLLIN != 0
	return ready, !ready && fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0, err
}

// one answers a call that waits. ENOENT, no error, says that the process that made it is gone, or was
// woken by a signal and makes it again.
func (d *Descriptor) one(fd uintptr, answer Answer) error {
	var call notification
	errno := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&call))
	if errno == 0 {
		reply := response{id: call.id, error: -int32(answer(Call{call.arch, call.number}, d.ofRuntime(int(call.pid))))}
		errno = ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&reply))
	}
	if errno != 0 && errno != unix.ENOENT {
		return errno
	}
	return nil
}

// ofRuntime reports whether a thread, which waits for its answer, still executes the runtime. Once
// one does not, none does: the filter's first process is the only one until then.
func (d *Descriptor) ofRuntime(thread int) bool {
	if d.runtime != 0 && hasNotExecuted(d.runtime, thread) {
		return true
	}
	d.runtime = 0
	return false
}

// hasNotExecuted reports whether a thread is one of a process that has executed nothing since it
// was forked, as a runtime's last process has not. That is asked at the call, and not remembered
// from when the descriptor arrived: by then, the process may have gone on.
func hasNotExecuted(process, thread int) bool {
	var st unix.Stat_t
	if unix.Lstat(fmt.Sprintf("/proc/%d/task/%d", process, thread), &st) != nil {
		return false // it is another process's
	}
	// Of the process's first thread: no other tells, since each was made by a fork.
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process))
	if err != nil {
		return false
	}
	// The program's name, in parentheses, may have any bytes (proc_pid_stat(5)).
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const flags, forkNoExec = 9 - 3, 0x40 // PF_FORKNOEXEC, linux/sched.h
	if len(fields) <= flags {
		return false
	}
	value, err := strconv.ParseUint(string(fields[flags]), 10, 64)
	return err == nil && value&forkNoExec != 0
}

// ioctl repeats what a signal has interrupted.
func ioctl(fd uintptr, request uint, argument unsafe.Pointer) unix.Errno {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(request), uintptr(argument))
		if errno != unix.EINTR {
			return errno
		}
	}
}
