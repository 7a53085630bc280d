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
	// recordRetry is the pause before an exit is recorded again.
	recordRetry = 500 * time.Millisecond
	// recordTries bounds the attempts to record an exit in a broken stream.
	recordTries = 10
)

// Exits records what the monitor saw.
type Exits struct {
	Monitor Monitor
	Actors  Actors
	Logger  *slog.Logger
}

// Follow records exits in order and then acknowledges each to the monitor, which keeps
// what the log refuses.
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

// record retries until the exit is recorded or its stream is given up. It returns false
// if ctx ended first.
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
			// A panic is transient. A stream in quarantine would block all other exits.
			if failed++; failed == recordTries {
				return true
			}
		}
		if !pause(ctx, recordRetry) {
			return false
		}
	}
}

// FollowLosses records lost output. The monitor adds up what was not recorded and
// reports it with the next loss.
func (x *Exits) FollowLosses(ctx context.Context) {
	for loss := range x.Monitor.Losses(ctx) {
		_, err := x.Actors.Container(ctx, id.Container(loss.ContainerID), container.ReportLoss{Bytes: loss.Bytes, Reason: loss.Reason}, nil)
		if err != nil && ctx.Err() == nil && fault.KindOf(err) != fault.NotFound {
			x.Logger.Warn("loss of output not recorded", "container", loss.ContainerID, "bytes", loss.Bytes, "error", err)
		}
	}
}

// pause waits. It returns false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
