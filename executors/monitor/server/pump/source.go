package pump

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/redo"
)

// terminalEvents are edge-triggered: a terminal may stay hung up for long.
const terminalEvents = unix.EPOLLIN | unix.EPOLLET

// identify returns what distinguishes a pipe or a terminal from all others on this
// machine.
func identify(fd int) (redo.Key, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return redo.Key{}, fmt.Errorf("stat descriptor %d: %w", fd, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return pipeKey(st.Ino), nil
	case unix.S_IFCHR:
		number, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
		if err != nil {
			return redo.Key{}, fmt.Errorf("descriptor %d is a device, but no terminal's master: %w", fd, err)
		}
		// All masters of an instance of devpts have one inode.
		return redo.Key{Device: st.Dev, Inode: st.Ino, Terminal: uint64(number) + 1}, nil
	default:
		return redo.Key{}, fmt.Errorf("descriptor %d is neither a pipe nor a terminal (mode %#o)", fd, st.Mode)
	}
}

// packets puts a terminal into packet mode: each read begins with a byte that says what
// follows (TIOCPKT in ioctl_tty(2)), which also shows that there was a read.
func packets(master int) error {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCPKT, 1); err != nil {
		return fmt.Errorf("put a terminal into packet mode: %w", err)
	}
	return nil
}

func pipeKey(inode uint64) redo.Key { return redo.Key{Inode: inode} }

// available returns how many bytes can be read. The number only grows until a read.
func available(fd int) (int, error) {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return 0, fmt.Errorf("ask how much can be read: %w", err)
	}
	return n, nil
}

// hungUp reports whether nothing can be read and nobody can write. The kernel checks
// both at once, and for a terminal after delivering pending output.
func hungUp(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, 0); err != nil {
		return false // EINTR: the event will recur.
	}
	return fds[0].Revents&unix.POLLHUP != 0 && fds[0].Revents&unix.POLLIN == 0
}

// peek looks at the beginning of a pipe's content, through a pipe of its own.
type peek struct {
	r, w int
	data [redo.Short]byte
}

func newPeek() (*peek, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	return &peek{r: fds[0], w: fds[1]}, nil
}

// at returns the first size bytes, if they are few: see redo.Flight.Read. It returns
// fewer where that is not possible.
func (p *peek) at(s *stream, size int) []byte {
	if size > len(p.data) || s.terminal {
		return nil
	}
	n, err := unix.Tee(s.fd, p.w, size, unix.SPLICE_F_NONBLOCK)
	if err != nil || n <= 0 {
		return nil
	}
	got, err := unix.Read(p.r, p.data[:n])
	if err != nil {
		return nil
	}
	return p.data[:got]
}

func (p *peek) close() {
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
}
