package stdio

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Ends are both ends of a container's pipes, or its terminal.
type Ends struct {
	// Child are the container's ends, 0, 1 and 2; -1 for /dev/null.
	Child [3]int
	// Stdin, Stdout and Stderr are the monitor's ends; -1 for none.
	Stdin, Stdout, Stderr int
	// Terminal is the master of the container's terminal; -1 for none.
	Terminal int
}

// New makes the pipes of a container.
func New(withStdin bool) (*Ends, error) {
	p := &Ends{Child: [3]int{-1, -1, -1}, Stdin: -1, Stdout: -1, Stderr: -1, Terminal: -1}
	var err error
	if p.Stdout, p.Child[1], err = outputPipe(); err == nil {
		p.Stderr, p.Child[2], err = outputPipe()
	}
	if err == nil && withStdin {
		p.Child[0], p.Stdin, err = pipe()
		if err == nil {
			err = unix.SetNonblock(p.Stdin, true)
		}
	}
	if err != nil {
		p.CloseChild()
		p.CloseOwn()
		return nil, fmt.Errorf("make the container's pipes: %w", err)
	}
	return p, nil
}

// CloseChild closes the container's ends.
func (p *Ends) CloseChild() {
	Close(p.Child[:]...)
	p.Child = [3]int{-1, -1, -1}
}

// CloseOwn closes the monitor's ends.
func (p *Ends) CloseOwn() {
	Close(p.Stdin, p.Stdout, p.Stderr, p.Terminal)
	p.Stdin, p.Stdout, p.Stderr, p.Terminal = -1, -1, -1, -1
}

// ReplaceByTerminal closes the pipes, which served the runtime's own messages, and
// keeps a terminal instead.
func (p *Ends) ReplaceByTerminal(master int) {
	p.CloseChild()
	p.CloseOwn()
	p.Terminal = master
}

func pipe() (r, w int, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, err
	}
	return fds[0], fds[1], nil
}

// outputPipe makes a pipe for a container's output. The container's end is open for
// reading too, so that the pipe has a reader as long as the container lives: while
// monitor and daemon are both dead, a write blocks instead of killing the container
// with SIGPIPE. It is a pipe and not a FIFO because a FIFO has a path, which security
// modules check.
func outputPipe() (own, child int, err error) {
	r, w, err := pipe()
	if err != nil {
		return -1, -1, err
	}
	defer func() { _ = unix.Close(w) }()
	child, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", w), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		if err = unix.SetNonblock(r, true); err == nil {
			return r, child, nil
		}
		_ = unix.Close(child)
	}
	_ = unix.Close(r)
	return -1, -1, err
}
