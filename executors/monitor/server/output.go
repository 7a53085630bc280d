package server

import (
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
	"github.com/stele-runtime/stele/executors/monitor/server/pump"
	"github.com/stele-runtime/stele/executors/monitor/server/stdio"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// outputs reads containers' output into their logs.
type outputs struct {
	pump   *pump.Pump
	losses *news[*pb.Loss]
	logger *slog.Logger
}

// reopenLog reopens the container's log by its path.
func (c *container) reopenLog() error {
	output := c.outputs()
	if output == nil {
		return fail(pb.Failure_CODE_NOT_FOUND, "container %q has no log any more", c.id)
	}
	return output.Reopen()
}

// logAgain opens the log of an earlier monitor's container. If that fails, output is
// dropped and counted until the next ReopenContainerLog, so that the container need
// not wait.
func (o *outputs) logAgain(c *container) *crilog.File {
	log, err := openLog(c.record.LogPath, c.record.MaxLogSize)
	if err != nil {
		o.logger.Error("reopen the log of a container", "container", c.id, "error", err)
		return crilog.Closed(c.record.LogPath, c.record.MaxLogSize)
	}
	return log
}

// reading returns a container's output, which may have no pipes yet.
func (o *outputs) reading(c *container) (*pump.Output, error) {
	if output := c.outputs(); output != nil {
		return output, nil
	}
	output, err := o.pump.Attach(pump.Pipes{Stdout: -1, Stderr: -1}, o.logAgain(c))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	other := c.output
	if other == nil {
		c.output = output
	}
	c.mu.Unlock()
	if other != nil {
		return other, output.Close()
	}
	o.watchLosses(c)
	return output, nil
}

// attach begins to read a container's output. It owns the log from then on, also
// after an error.
func (o *outputs) attach(b belongings, log *crilog.File) (*pump.Output, error) {
	pipes, err := sources(b.stdout, b.stderr, b.terminal)
	if err != nil {
		closeLog(log)
		return nil, err
	}
	return o.pump.Attach(pipes, log)
}

// settle writes what an earlier monitor had read, and not written, of pipes that are
// gone.
func (o *outputs) settle(all []*container) {
	for _, c := range all {
		gone := pump.Gone{Stdout: c.record.StdoutInode, Stderr: c.record.StderrInode}
		if !c.resumed || c.record.LogPath == "" || !o.pump.Holds(gone) {
			continue
		}
		log := o.logAgain(c)
		if err := o.pump.Finish(gone, log); err != nil {
			o.logger.Error("write the end of a container's output", "container", c.id, "error", err)
			continue
		}
		if bytes, reason := log.Lost(); bytes > 0 && c.outputs() == nil {
			o.losses.note(c.id, &pb.Loss{ContainerId: c.id, Bytes: c.record.LogLost + uint64(bytes), Reason: reason.Error()})
		}
	}
	dropped, err := o.pump.Settle()
	if err != nil || dropped > 0 {
		o.logger.Error("output of unknown containers was dropped", "bytes", dropped, "error", err)
	}
}

// watchLosses notes what a container's log refuses, on top of earlier losses.
func (o *outputs) watchLosses(c *container) {
	output := c.outputs()
	if output == nil {
		return
	}
	before := c.record.LogLost
	if before > 0 {
		o.losses.note(c.id, &pb.Loss{ContainerId: c.id, Bytes: before, Reason: c.record.LogError})
	}
	// A stopped pump loses nothing.
	_ = output.NotifyLost(func(bytes int64, reason error) {
		o.losses.note(c.id, &pb.Loss{ContainerId: c.id, Bytes: before + uint64(bytes), Reason: reason.Error()})
	})
}

// drain waits until what a container left in its pipes is written.
func (o *outputs) drain(c *container) {
	output := c.outputs()
	if output == nil {
		return
	}
	drained := make(chan struct{})
	if output.Drain(func() { close(drained) }) != nil {
		return
	}
	select {
	case <-drained:
	case <-time.After(drainWait):
		o.logger.Warn("the end of a container's output is not in its log yet", "container", c.id)
	}
}

// openLog opens a container's log; nil for an empty path.
func openLog(path string, max int64) (*crilog.File, error) {
	if path == "" {
		return nil, nil
	}
	return crilog.Open(path, max)
}

func closeLog(log *crilog.File) {
	if log != nil {
		log.Close()
	}
}

// sources returns what the pump reads of a container: its pipes, or a duplicate of its
// terminal, since the terminal is also written and resized. It owns the pipes.
func sources(stdout, stderr, terminal int) (pump.Pipes, error) {
	if terminal < 0 {
		return pump.Pipes{Stdout: stdout, Stderr: stderr}, nil
	}
	stdio.Close(stdout, stderr)
	none := pump.Pipes{Stdout: -1, Stderr: -1}
	if err := unix.SetNonblock(terminal, true); err != nil {
		return none, fmt.Errorf("use a terminal: %w", err)
	}
	twin, err := stdio.Duplicate(terminal)
	if err != nil {
		return none, err
	}
	return pump.Pipes{Stdout: twin, Stderr: -1}, nil
}
