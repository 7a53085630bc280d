package cri

import (
	"context"
	"strings"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/executors/streams"
)

// maxCommand bounds a command with its arguments, in bytes. Linux executes none that is
// longer (execve(2): three quarters of 8 MiB).
const maxCommand = 6 << 20

// checkCommand refuses what can never be executed.
func checkCommand(cmd []string) error {
	if len(cmd) == 0 || cmd[0] == "" {
		return invalid("cmd", "is empty")
	}
	total := 0
	for i, arg := range cmd {
		if at := strings.IndexByte(arg, 0); at >= 0 {
			return invalid("cmd", "[%d] has a NUL at byte %d", i, at)
		}
		total += len(arg) + 1
	}
	if total > maxCommand {
		return invalid("cmd", "is %d bytes long, and a command has at most %d", total, maxCommand)
	}
	return nil
}

// run runs a command in a container (ExecSync, Exec) and waits for its end. If ctx ends
// first, the command is killed.
func (s streamService) run(ctx context.Context, c id.Container, command container.RunExec, stdio streams.Stdio) (container.ExecEnded, error) {
	command.Exec = id.Exec(newID()[:16])
	defer s.Execs.Begin(ctx, command.Exec, stdio)()
	var ended container.ExecEnded
	answer := container.ExecAnswer(command.Exec)
	_, err := s.Actors.Container(ctx, c, command, func(state container.State, e container.Event) (bool, error) {
		done, err := answer(state, e)
		if done && err == nil {
			ended, _ = e.(container.ExecEnded)
		}
		return done, err
	})
	return ended, err
}

// checkRuns refuses containers in which no command can run.
func checkRuns(op string, state container.State) error {
	switch state.Phase {
	case container.Created, container.Starting, container.Running:
		if !state.Run.ExitSeen {
			return nil
		}
	case container.Absent, container.Creating, container.Unwinding, container.Failed, container.Exited, container.Removing, container.Removed:
	}
	return fault.New(fault.Precondition, op, string(state.ID), "container_id: it is %s, not running", state.Phase)
}
