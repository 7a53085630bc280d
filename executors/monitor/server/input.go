package server

import (
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/stdio"
)

// input copies a client's input to a container.
type input struct {
	from, to *os.File
	// ended is closed at the end of the input, or when nothing reads it any more.
	ended chan struct{}
}

// openInput begins to copy to the container's standard input or terminal, if there is
// one. It owns the descriptor.
func (c *container) openInput(from int) (*input, error) {
	// Non-blocking, so that Close ends a read.
	if err := unix.SetNonblock(from, true); err != nil {
		stdio.Close(from)
		return nil, err
	}
	in := &input{from: os.NewFile(uintptr(from), "a client's input"), ended: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	target := c.stdin
	if c.terminal >= 0 {
		target = c.terminal
	}
	if target < 0 {
		// The input has nowhere to go, which the client's pipe shows.
		in.from.Close()
		close(in.ended)
		return in, nil
	}
	to, err := stdio.Duplicate(target)
	if err != nil {
		in.from.Close()
		return nil, err
	}
	in.to = os.NewFile(uintptr(to), "a container's input")
	if c.inputs == nil {
		c.inputs = map[*input]struct{}{}
	}
	c.inputs[in] = struct{}{}
	go in.copy()
	return in, nil
}

// copy copies until the client's end, until nothing reads any more, or until close.
func (in *input) copy() {
	defer close(in.ended)
	_, _ = io.Copy(in.to, in.from)
	in.from.Close()
	in.to.Close()
}

// closeInput ends the copying.
func (c *container) closeInput(in *input) {
	if in == nil {
		return
	}
	c.mu.Lock()
	delete(c.inputs, in)
	c.mu.Unlock()
	in.close()
}

func (in *input) close() {
	in.from.Close()
	if in.to != nil {
		in.to.Close()
	}
	<-in.ended
}

// leaveInput is called when a client's input has ended. With stdin_once that closes
// the container's standard input for all clients, and leaveInput returns true. A
// terminal stays open.
func (a *attachment) leaveInput() bool {
	c := a.container
	if !c.record.StdinOnce || c.record.Terminal {
		return false
	}
	c.mu.Lock()
	already, stdin, inputs := c.stdinClosed, c.stdin, c.inputs
	c.stdinClosed, c.stdin, c.inputs = true, -1, nil
	c.mu.Unlock()
	stdio.Close(stdin)
	for in := range inputs {
		in.close()
	}
	if already {
		return true
	}
	if err := a.journal.StdinClosed(c.id); err != nil {
		a.logger.Error("journal the end of a container's input", "container", c.id, "error", err)
	}
	return true
}

func (c *container) isStdinClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stdinClosed
}
