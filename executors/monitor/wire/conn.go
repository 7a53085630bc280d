package wire

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

const (
	// MaxFrame is the size of the largest frame, in bytes. It fits into the
	// send buffer that a socket has by default.
	MaxFrame = 64 << 10
	// MaxDescriptors is how many file descriptors may come with a frame.
	MaxDescriptors = 8
)

// ErrTooLarge is the error for a frame above MaxFrame.
var ErrTooLarge = fmt.Errorf("frame is larger than %d bytes", MaxFrame)

// Conn is one end of a connection. Send may be called by any number of
// goroutines at once, Receive by one.
type Conn struct {
	file *os.File
	raw  syscall.RawConn
	in   []byte
	oob  []byte
}

// Dial connects to the socket at path.
func Dial(path string) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	// A connect to a Unix socket does not block. EAGAIN means that the other side's
	// backlog is full; the caller may retry.
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return newConn(fd)
}

// newConn takes over fd, which is non-blocking.
func newConn(fd int) (*Conn, error) {
	file := os.NewFile(uintptr(fd), "monitor connection")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("use the connection: %w", err)
	}
	return &Conn{
		file: file,
		raw:  raw,
		in:   make([]byte, MaxFrame+1),
		oob:  make([]byte, unix.CmsgSpace(MaxDescriptors*4)),
	}, nil
}

// Close ends the connection. It wakes a Receive that waits.
func (c *Conn) Close() { c.file.Close() }

// Send writes m and duplicates of the descriptors as one frame. It waits while
// the other side doesn't read, until Close.
func (c *Conn) Send(m proto.Message, descriptors ...int) error {
	if len(descriptors) > MaxDescriptors {
		return fmt.Errorf("send a frame: %d descriptors, at most %d can be sent", len(descriptors), MaxDescriptors)
	}
	frame, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode a frame: %w", err)
	}
	if len(frame) > MaxFrame {
		return fmt.Errorf("send a frame of %d bytes: %w", len(frame), ErrTooLarge)
	}
	var rights []byte
	if len(descriptors) > 0 {
		rights = unix.UnixRights(descriptors...)
	}
	var sendErr error
	err = c.raw.Write(func(fd uintptr) bool {
		for {
			_, sendErr = unix.SendmsgN(int(fd), frame, rights, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
			if sendErr != unix.EINTR {
				return sendErr != unix.EAGAIN
			}
		}
	})
	if err == nil {
		err = sendErr
	}
	if err != nil {
		return fmt.Errorf("send a frame of %d bytes with %d descriptors: %w", len(frame), len(descriptors), err)
	}
	return nil
}

// Receive waits for a frame, decodes it into m and returns the descriptors that came
// with it, which the caller must close. It returns io.EOF when the other side has
// closed the connection.
func (c *Conn) Receive(m proto.Message) ([]int, error) {
	var n, oobn, flags int
	var recvErr error
	err := c.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, flags, _, recvErr = unix.Recvmsg(int(fd), c.in, c.oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
			// If the other side closed with data unread, that is reported once,
			// before the frames that it had sent.
			if recvErr != unix.EINTR && recvErr != unix.ECONNRESET {
				return recvErr != unix.EAGAIN
			}
		}
	})
	if err == nil {
		err = recvErr
	}
	if err != nil {
		return nil, fmt.Errorf("receive a frame: %w", err)
	}
	descriptors, err := parseRights(c.oob[:oobn])
	if err != nil {
		return nil, err
	}
	if n == 0 {
		closeAll(descriptors)
		return nil, io.EOF
	}
	if flags&unix.MSG_TRUNC != 0 {
		closeAll(descriptors)
		return nil, fmt.Errorf("receive a frame: %w", ErrTooLarge)
	}
	if flags&unix.MSG_CTRUNC != 0 {
		closeAll(descriptors)
		return nil, fmt.Errorf("receive a frame: descriptors were lost (more than %d, or none free here)", MaxDescriptors)
	}
	if err := proto.Unmarshal(c.in[:n], m); err != nil {
		closeAll(descriptors)
		return nil, fmt.Errorf("decode a frame of %d bytes: %w", n, err)
	}
	return descriptors, nil
}

// parseRights returns the descriptors in control messages. On an error it has
// closed those that it found.
func parseRights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control messages: %w", err)
	}
	var descriptors []int
	for i := range messages {
		if messages[i].Header.Level != unix.SOL_SOCKET || messages[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		some, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			closeAll(descriptors)
			return nil, fmt.Errorf("parse descriptors: %w", err)
		}
		descriptors = append(descriptors, some...)
	}
	return descriptors, nil
}

func closeAll(descriptors []int) {
	for _, fd := range descriptors {
		_ = unix.Close(fd)
	}
}
