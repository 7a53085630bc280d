package stdio

import (
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// consoleWait is how long after the runtime's end the terminal may take to arrive:
// it was sent before.
const consoleWait = 5 * time.Second

// Console is a socket on which a runtime hands over the master of a
// pseudoterminal, as runc's --console-socket has it: one message with one
// descriptor.
type Console struct {
	path string
	fd   int
}

// NewConsole makes the socket.
func NewConsole(path string) (*Console, error) {
	c := &Console{path: path}
	var err error
	if c.fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return nil, fmt.Errorf("make a console socket: %w", err)
	}
	// An earlier monitor may have left one.
	_ = os.Remove(c.path)
	if err = unix.Bind(c.fd, &unix.SockaddrUnix{Name: c.path}); err == nil {
		err = unix.Listen(c.fd, 1)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("make the console socket %s: %w", c.path, err)
	}
	return c, nil
}

// Args inserts the option before the last of a runtime's arguments, the id.
func (c *Console) Args(args []string) []string {
	last := max(0, len(args)-1)
	return slices.Concat(args[:last], []string{"--console-socket", c.path}, args[last:])
}

// Receive takes the master, after the runtime has ended well.
func (c *Console) Receive() (int, error) {
	if err := pollIn(c.fd, consoleWait); err != nil {
		return -1, fmt.Errorf("wait for the runtime to send a terminal: %w", err)
	}
	conn, _, err := unix.Accept4(c.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("let the runtime send a terminal: %w", err)
	}
	defer func() { _ = unix.Close(conn) }()
	if err := pollIn(conn, consoleWait); err != nil {
		return -1, fmt.Errorf("wait for the runtime to send a terminal: %w", err)
	}
	fd, err := receiveDescriptor(conn)
	if err != nil {
		return -1, fmt.Errorf("receive a terminal from the runtime: %w", err)
	}
	if err := checkTerminal(fd); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("receive a terminal from the runtime: %w", err)
	}
	return fd, nil
}

// Close closes and removes the socket.
func (c *Console) Close() {
	_ = unix.Close(c.fd)
	_ = os.Remove(c.path)
}

// pollIn waits until a descriptor can be read.
func pollIn(fd int, wait time.Duration) error {
	for end := time.Now().Add(wait); ; {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(0, time.Until(end).Milliseconds())))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return os.ErrDeadlineExceeded
		default:
			return nil
		}
	}
}

// receiveDescriptor receives one message, with exactly one descriptor.
func receiveDescriptor(conn int) (int, error) {
	// The message is the terminal's name, which is not needed.
	text, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, oobn, flags, _, err := unix.Recvmsg(conn, text, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	var fds []int
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	for i := range messages {
		if some, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, some...)
		}
	}
	if err != nil || len(fds) != 1 || flags&unix.MSG_CTRUNC != 0 {
		Close(fds...)
		return -1, fmt.Errorf("a message with %d descriptors (flags %#x)", len(fds), flags)
	}
	return fds[0], nil
}

// checkTerminal makes sure that fd is the master of a pseudoterminal: anything else
// could block or lead elsewhere.
func checkTerminal(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	// /dev/ptmx and every instance's ptmx are character device 5:2, see the
	// kernel's devices.txt.
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || unix.Major(st.Rdev) != 5 || unix.Minor(st.Rdev) != 2 {
		return fmt.Errorf("a file of mode %#o is not the master of a pseudoterminal", st.Mode)
	}
	if _, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN); err != nil {
		return fmt.Errorf("it is not the master of a pseudoterminal: %w", err)
	}
	return nil
}
