package server

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/pump"
)

// stdio are both sides of what a container reads and writes.
type stdio struct {
	// child are the container's ends, 0, 1 and 2; -1 for /dev/null.
	child [3]int
	// stdin, stdout and stderr are the monitor's ends; -1 for none.
	stdin, stdout, stderr int
	// terminal is the master of the container's terminal; -1 for none.
	terminal int
}

// newStdio makes the pipes of a container.
func newStdio(withStdin bool) (*stdio, error) {
	p := &stdio{child: [3]int{-1, -1, -1}, stdin: -1, stdout: -1, stderr: -1, terminal: -1}
	var err error
	if p.stdout, p.child[1], err = outputPipe(); err == nil {
		p.stderr, p.child[2], err = outputPipe()
	}
	if err == nil && withStdin {
		p.child[0], p.stdin, err = pipe()
		if err == nil {
			err = unix.SetNonblock(p.stdin, true)
		}
	}
	if err != nil {
		p.closeChild()
		p.closeOwn()
		return nil, fmt.Errorf("make the container's pipes: %w", err)
	}
	return p, nil
}

func (p *stdio) closeChild() {
	closeAll(p.child[:]...)
	p.child = [3]int{-1, -1, -1}
}

func (p *stdio) closeOwn() {
	closeAll(p.stdin, p.stdout, p.stderr, p.terminal)
	p.stdin, p.stdout, p.stderr, p.terminal = -1, -1, -1, -1
}

// replaceByTerminal closes the pipes, which were only for what the runtime has to
// say of itself, and goes on with a terminal.
func (p *stdio) replaceByTerminal(master int) {
	p.closeChild()
	p.closeOwn()
	p.terminal = master
}

func pipe() (r, w int, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, err
	}
	return fds[0], fds[1], nil
}

// outputPipe makes a pipe for a container to write to. The container's end is
// open for reading too, so that the pipe has a reader as long as the container
// lives: when monitor and daemon are both dead, a write waits until one is back
// instead of killing the container with SIGPIPE. For the same reason it is a
// pipe and not a FIFO: those have a path, which security modules check.
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

// sources returns what the pump reads of a container: its pipes, or a duplicate of
// its terminal, which is also written and resized. The pipes are the pump's.
func sources(stdout, stderr, terminal int) (pump.Pipes, error) {
	if terminal < 0 {
		return pump.Pipes{Stdout: stdout, Stderr: stderr}, nil
	}
	closeAll(stdout, stderr)
	none := pump.Pipes{Stdout: -1, Stderr: -1}
	if err := unix.SetNonblock(terminal, true); err != nil {
		return none, fmt.Errorf("use a terminal: %w", err)
	}
	twin, err := duplicate(terminal)
	if err != nil {
		return none, err
	}
	return pump.Pipes{Stdout: twin, Stderr: -1}, nil
}
