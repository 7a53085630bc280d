package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// receiveWait is how long a runtime may take to send its message.
	receiveWait = 5 * time.Second
	// maxState bounds a message, in bytes. It has the container's annotations.
	maxState = 4 << 20
	// maxDescriptors bounds the descriptors that come with it.
	maxDescriptors = 16
	// descriptorName marks the one that reports calls (runtime-spec, ContainerProcessState).
	descriptorName = "seccompFd"
)

// state is what is read of the runtime-spec's ContainerProcessState.
type state struct {
	FDs   []string `json:"fds"`
	PID   int      `json:"pid"`
	State struct {
		ID string `json:"id"`
	} `json:"state"`
}

// Receive takes a container's descriptor from a connection, which it closes. The runtime sends it and
// waits for nothing: its process may be the container's, or that of a command, by now.
func Receive(connection int, container string) (*Descriptor, error) {
	conn := os.NewFile(uintptr(connection), "seccomp listener")
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err == nil {
		err = conn.SetReadDeadline(time.Now().Add(receiveWait))
	}
	if err != nil {
		return nil, fmt.Errorf("use the connection: %w", err)
	}
	message := &message{raw: raw, left: maxState}
	fd, pid, err := message.descriptor(container)
	message.close()
	if err != nil {
		return nil, fmt.Errorf("receive the descriptor of a seccomp filter: %w", err)
	}
	d, err := Open(fd)
	if err == nil {
		d.runtime = pid
	}
	return d, err
}

// message reads a connection's bytes, and keeps the descriptors among them.
type message struct {
	raw  syscall.RawConn
	left int
	fds  []int
}

// close closes the descriptors that were not taken.
func (m *message) close() {
	for _, fd := range m.fds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// descriptor returns the one descriptor that reports the container's calls, and the process. It is
// the caller's.
func (m *message) descriptor(container string) (fd, pid int, err error) {
	var s state
	if err := json.NewDecoder(m).Decode(&s); err != nil {
		return -1, 0, err
	}
	if s.State.ID != container {
		return -1, 0, fmt.Errorf("it is of container %.80q, not %q", s.State.ID, container)
	}
	at := -1
	for i, name := range s.FDs {
		if name != descriptorName {
			continue
		}
		if at >= 0 {
			return -1, 0, fmt.Errorf("two are named %s", descriptorName)
		}
		at = i
	}
	if at < 0 || len(s.FDs) != len(m.fds) {
		return -1, 0, fmt.Errorf("%d came, %d are named, and %s is number %d of these", len(m.fds), len(s.FDs), descriptorName, at+1)
	}
	fd, m.fds[at] = m.fds[at], -1
	return fd, s.PID, nil
}

// Read is for the decoder.
func (m *message) Read(p []byte) (n int, err error) {
	if m.left <= 0 {
		return 0, fmt.Errorf("the message is longer than %d bytes", maxState)
	}
	p = p[:min(len(p), m.left)]
	oob := make([]byte, unix.CmsgSpace(4*maxDescriptors))
	var oobn, flags int
	var recvErr error
	err = m.raw.Read(func(fd uintptr) bool {
		n, oobn, flags, _, recvErr = unix.Recvmsg(int(fd), p, oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
		return recvErr != unix.EAGAIN && recvErr != unix.EINTR
	})
	if err = errors.Join(err, recvErr); err != nil {
		return 0, err
	}
	if err := m.keep(oob[:oobn], flags); err != nil {
		return 0, err
	}
	m.left -= n
	if n == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

// keep keeps the descriptors of control messages.
func (m *message) keep(oob []byte, flags int) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			m.fds = append(m.fds, fds...)
		}
	}
	if err == nil && (flags&unix.MSG_CTRUNC != 0 || len(m.fds) > maxDescriptors) {
		err = fmt.Errorf("more than %d came", maxDescriptors)
	}
	return err
}
