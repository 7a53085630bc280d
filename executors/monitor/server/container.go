package server

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/executors/monitor/server/pump"
	"github.com/stele-runtime/stele/executors/monitor/server/stdio"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// container is what the monitor knows of a container.
//
//	reserved ──► ready ──► exited
//	    └──► ready with err, and dropped
type container struct {
	id string

	// ready happens when the runtime has ended; then err or record is set, and neither
	// changes afterwards.
	ready  latch
	err    error
	record *pb.Container
	// notifier answers its forbidden system calls; nil for none. It does not change after
	// ready, either.
	notifier *notifier

	// once guards against two sources of one exit.
	once sync.Once
	// resumed: the container comes from an earlier monitor.
	resumed bool
	// exited happens when the exit is in the journal; then exit is set.
	exited latch
	exit   *pb.Exit

	mu sync.Mutex
	// output is nil if there are no pipes, or none any more.
	output *pump.Output
	// pidfd, stdin and terminal (the master) are -1 when absent.
	pidfd, stdin, terminal int
	// stdinClosed: stdin was closed for good.
	stdinClosed bool
	// lost: the container comes from an earlier monitor, its process is gone, and its
	// exit is not known yet.
	lost bool
	// inputs are those of the clients; nil until there is one.
	inputs map[*input]struct{}
}

func newContainer(id string) *container {
	return &container{id: id, pidfd: -1, stdin: -1, terminal: -1}
}

// hasExited reports whether the exit is in the journal.
func (c *container) hasExited() bool { return c.exited.happened() }

// hungUp reports whether the container's terminal was held by nobody for a time.
func (c *container) hungUp() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record.Terminal && c.terminal < 0 && c.pidfd >= 0
}

func (c *container) outputs() *pump.Output {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.output
}

// describe returns the protocol's description of a container that is ready.
func (c *container) describe() *pb.Container {
	description := proto.CloneOf(c.record)
	if c.hasExited() {
		description.Exit = c.exit
	}
	c.mu.Lock()
	description.StdinClosed = c.stdinClosed
	c.mu.Unlock()
	description.TerminalLost = c.hungUp()
	if counted := c.notifier.counted(); counted != nil {
		description.Blocked = counted
	}
	if output := c.outputs(); output != nil {
		lost, err := output.Lost()
		description.LogLost += uint64(lost)
		if err != nil {
			description.LogError = err.Error()
		}
	}
	return description
}

// lend returns duplicates of the container's descriptors.
func (c *container) lend() (descriptors, error) {
	var d descriptors
	c.mu.Lock()
	output := c.output
	err := errorsFirst(
		d.duplicate(pb.Role_ROLE_PIDFD, c.pidfd),
		d.duplicate(pb.Role_ROLE_STDIN, c.stdin),
		d.duplicate(pb.Role_ROLE_TERMINAL, c.terminal))
	c.mu.Unlock()
	if err == nil && output != nil && !c.record.Terminal {
		var pipes pump.Pipes
		if pipes, err = output.Duplicate(); err == nil {
			d.add(pb.Role_ROLE_STDOUT, pipes.Stdout)
			d.add(pb.Role_ROLE_STDERR, pipes.Stderr)
		}
	}
	if err != nil {
		d.close()
		return descriptors{}, err
	}
	return d, nil
}

// release writes what the pipes hold, and closes the container's descriptors.
func (c *container) release() error {
	c.notifier.close()
	c.mu.Lock()
	output, pidfd, stdin, terminal := c.output, c.pidfd, c.stdin, c.terminal
	c.output, c.pidfd, c.stdin, c.terminal = nil, -1, -1, -1
	c.mu.Unlock()
	stdio.Close(pidfd, stdin, terminal)
	if output == nil {
		return nil
	}
	return output.Close()
}

// signal sends a signal to the container's first process.
func (c *container) signal(signal unix.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pidfd < 0 {
		return nil
	}
	if err := unix.PidfdSendSignal(c.pidfd, signal, nil, 0); err != nil && err != unix.ESRCH {
		return fail(pb.Failure_CODE_INTERNAL, "send signal %d to container %s: %v", signal, c.id, err)
	}
	return nil
}

// resize sets the size of the container's terminal.
func (c *container) resize(req *pb.Resize) error {
	const most = 1<<16 - 1
	if !c.record.Terminal || req.Width > most || req.Height > most {
		return fail(pb.Failure_CODE_INVALID, "resize container %q to %d by %d: it has no terminal, or that is out of range", c.id, req.Width, req.Height)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.terminal < 0 {
		return nil // Ended, or hung up.
	}
	size := unix.Winsize{Col: uint16(req.Width), Row: uint16(req.Height)}
	if err := unix.IoctlSetWinsize(c.terminal, unix.TIOCSWINSZ, &size); err != nil {
		return fmt.Errorf("resize the terminal of container %s: %w", c.id, err)
	}
	return nil
}
