package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/executors"
	"github.com/stele-runtime/stele/executors/monitor"
)

const (
	// recordRetry is the pause before an exit is offered to the log again.
	recordRetry = 500 * time.Millisecond
	// recordTries is how often an exit is offered to a stream that fails of itself.
	recordTries = 10
)

// Exits brings what the monitor saw to the log.
type Exits struct {
	Monitor Monitor
	Actors  Actors
	Logger  *slog.Logger
}

// Follow records exits in order, and acknowledges each to the monitor once it is
// recorded. An exit that the log cannot take stays with the monitor.
func (x *Exits) Follow(ctx context.Context) {
	for exit := range x.Monitor.Exits(ctx, 0) {
		if !x.record(ctx, exit) {
			return
		}
		if err := x.Monitor.Ack(ctx, exit.Seq); err != nil && ctx.Err() == nil {
			x.Logger.Warn("exit not acknowledged, the monitor will repeat it", "container", exit.ContainerID, "error", err)
		}
	}
}

// record offers an exit to its stream until it is taken, or the stream is given up. It
// reports false if ctx was done first.
func (x *Exits) record(ctx context.Context, exit monitor.Exit) bool {
	process := container.Process{PID: exit.Process.PID, StartTime: exit.Process.StartTime, Inode: exit.Process.Inode}
	for failed := 0; ; {
		err := x.Actors.Exited(ctx, exit.ContainerID, process, executors.ExitOf(exit))
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		x.Logger.Error("exit not recorded", "container", exit.ContainerID, "error", err)
		if fault.KindOf(err) != fault.Unavailable {
			// A panic passes. A stream in quarantine stays, and would hold up all others.
			if failed++; failed == recordTries {
				return true
			}
		}
		if !pause(ctx, recordRetry) {
			return false
		}
	}
}

// FollowLosses records what logs have refused. The monitor counts, so that a loss that
// the log cannot take is part of the next.
func (x *Exits) FollowLosses(ctx context.Context) {
	for loss := range x.Monitor.Losses(ctx) {
		_, err := x.Actors.Container(ctx, id.Container(loss.ContainerID), container.ReportLoss{Bytes: loss.Bytes, Reason: loss.Reason}, nil)
		if err != nil && ctx.Err() == nil && fault.KindOf(err) != fault.NotFound {
			x.Logger.Warn("loss of output not recorded", "container", loss.ContainerID, "bytes", loss.Bytes, "error", err)
		}
	}
}

// pause waits, and reports false if ctx was done first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
