package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/proc"
	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	"github.com/stele-runtime/stele/executors/monitor/server/stdio"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// execProcess is an exec's process. It is in the journal until finish, so that the
// next monitor knows what to kill.
type execProcess struct {
	execs    *execs
	id       string
	identity proc.Identity
	// pidfd is -1 for a process that ended at once.
	pidfd int
	done  chan reaper.Status

	mu             sync.Mutex
	told, finished bool
}

func (x *execs) newProcess(id string) *execProcess {
	return &execProcess{execs: x, id: id, pidfd: -1, done: make(chan reaper.Status, 1)}
}

// followLeft follows the process that a runtime has left. It is called between Begin
// and End.
func (x *execs) followLeft(id, pidFile string) (*execProcess, error) {
	pid, err := readPidFile(pidFile)
	if err != nil {
		return nil, err
	}
	p := x.newProcess(id)
	p.pidfd, err = x.runtimes.reaper.Follow(pid, p.tell)
	p.identity = proc.Identify(pid, p.pidfd)
	if errors.Is(err, reaper.ErrForeign) {
		err = p.followForeign()
	}
	if err != nil {
		stdio.Close(p.pidfd)
		return nil, fmt.Errorf("follow the process of exec %s: %w", id, err)
	}
	return p, nil
}

// followAgain follows the process of an exec from an earlier monitor, or from before
// an upgrade. It owns the pidfd.
func (x *execs) followAgain(id string, identity proc.Identity, pidfd int) (*execProcess, error) {
	p := x.newProcess(id)
	p.identity, p.pidfd = identity, pidfd
	x.runtimes.reaper.Begin()
	defer x.runtimes.reaper.End()
	err := reaper.ErrForeign
	if isOwnChild(fromIdentity(identity)) {
		var twin int
		twin, err = x.runtimes.reaper.Follow(identity.PID, p.tell)
		stdio.Close(twin)
	}
	if errors.Is(err, reaper.ErrForeign) {
		err = p.followForeign()
	}
	if err != nil {
		stdio.Close(pidfd)
		return nil, fmt.Errorf("follow the process of exec %s again: %w", id, err)
	}
	return p, nil
}

// followForeign follows a process that is not the monitor's child.
func (p *execProcess) followForeign() error {
	// A duplicate, since finish closes the original.
	twin, err := stdio.Duplicate(p.pidfd)
	if err != nil {
		return err
	}
	err = p.execs.follower.follow(twin, func(status reaper.Status) {
		_ = unix.Close(twin)
		p.tell(status)
	})
	if err != nil {
		_ = unix.Close(twin)
	}
	return err
}

// tell takes the status. From then on an upgrade waits until it was answered, since
// the next program could not.
func (p *execProcess) tell(status reaper.Status) {
	p.mu.Lock()
	if !p.finished {
		p.told = true
		p.execs.ends.admit()
	}
	p.mu.Unlock()
	p.done <- status
}

// finish is called, once, after the reply was sent.
func (p *execProcess) finish() {
	p.mu.Lock()
	told := p.told
	p.finished = true
	p.mu.Unlock()
	p.execs.ended(p.id)
	stdio.Close(p.pidfd)
	if told {
		p.execs.ends.leave()
	}
}

func (p *execProcess) record() *pb.Started {
	return &pb.Started{Id: p.id, Process: fromIdentity(p.identity)}
}

// await waits for the process, and kills it and its descendants at the deadline or
// when ctx ends.
func (p *execProcess) await(ctx context.Context, deadline <-chan time.Time) (*pb.ExecEnded, error) {
	var timedOut bool
	select {
	case status := <-p.done:
		return p.result(status, false)
	case <-deadline:
		timedOut = true
	case <-ctx.Done():
	}
	status, err := p.kill()
	switch {
	case err != nil:
		return nil, err
	case timedOut:
		return p.result(status, true)
	default:
		return nil, fail(pb.Failure_CODE_CANCELED, "exec %s: killed: %v", p.id, errCanceled)
	}
}

// kill kills the process and its descendants, and waits for its end.
func (p *execProcess) kill() (reaper.Status, error) {
	proc.KillTree(p.identity)
	select {
	case status := <-p.done:
		return status, nil
	case <-time.After(killWait):
		return reaper.Status{}, fail(pb.Failure_CODE_INTERNAL, "exec %s: process %d is still there %v after it was killed", p.id, p.identity.PID, killWait)
	}
}

func (p *execProcess) result(status reaper.Status, timedOut bool) (*pb.ExecEnded, error) {
	if status.Unknown != "" && !timedOut {
		return nil, fail(pb.Failure_CODE_INTERNAL, "exec %s: its exit is unknown: %s", p.id, status.Unknown)
	}
	return &pb.ExecEnded{Code: int32(status.Code), Signal: int32(status.Signal), TimedOut: timedOut}, nil
}
