package wire

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listener accepts connections of the superuser and of the user that the
// process runs as.
type Listener struct {
	path string
	fd   int
	file *os.File
	raw  syscall.RawConn
}

// Listen makes a socket at path, mode 0600. It replaces a leftover one: the caller must
// know that no other process serves the path.
func Listen(path string) (*Listener, error) { return listen(path, unix.SOCK_SEQPACKET) }

// ListenStream is Listen for connections that are a stream of bytes, for AcceptFD.
func ListenStream(path string) (*Listener, error) { return listen(path, unix.SOCK_STREAM) }

func listen(path string, kind int) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	if err := bind(fd, path); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return Inherit(fd, path)
}

// Inherit takes over the socket that listens at path from this process's previous
// program.
func Inherit(fd int, path string) (*Listener, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("use the socket %s: %w", path, err)
	}
	file := os.NewFile(uintptr(fd), path)
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("use the socket %s: %w", path, err)
	}
	return &Listener{path: path, fd: fd, file: file, raw: raw}, nil
}

// FD returns the socket's descriptor, which stays the listener's.
func (l *Listener) FD() int { return l.fd }

func bind(fd int, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the old socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return fmt.Errorf("bind a socket to %s: %w", path, err)
	}
	// No one connects before the chmod: connections need listen.
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("protect the socket: %w", err)
	}
	if err := unix.Listen(fd, 64); err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	return nil
}

// ForeignPeerError: a process connected that is not allowed to.
type ForeignPeerError struct {
	PID int32
	UID uint32
}

func (e *ForeignPeerError) Error() string {
	return fmt.Sprintf("process %d of user %d connected, who is neither root nor this process's user", e.PID, e.UID)
}

// Accept waits for the next connection. After a *ForeignPeerError, whose connection it
// has closed, it can be called again.
func (l *Listener) Accept() (*Conn, error) {
	fd, err := l.AcceptFD()
	if err != nil {
		return nil, err
	}
	return newConn(fd)
}

// AcceptFD is Accept, and returns the connection as it is.
func (l *Listener) AcceptFD() (int, error) {
	fd := -1
	var acceptErr error
	err := l.raw.Read(func(listener uintptr) bool {
		for {
			fd, _, acceptErr = unix.Accept4(int(listener), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if acceptErr != unix.EINTR && acceptErr != unix.ECONNABORTED {
				return acceptErr != unix.EAGAIN
			}
		}
	})
	if err == nil {
		err = acceptErr
	}
	if err != nil {
		return -1, fmt.Errorf("accept a connection on %s: %w", l.path, err)
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("ask who connected to %s: %w", l.path, err)
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Getuid() {
		_ = unix.Close(fd)
		return -1, &ForeignPeerError{PID: peer.Pid, UID: peer.Uid}
	}
	return fd, nil
}

// Close stops listening and wakes an Accept that waits. The socket stays in the
// file system: removing it could remove that of a successor.
func (l *Listener) Close() { l.file.Close() }
