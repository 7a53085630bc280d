package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/streams"
)

// Exec is a command to execute in a running container.
type Exec struct {
	// ID is unique among the node's execs that run; it names files in the bundle.
	ID  string
	Cmd []string
	// Timeout for the command; 0 for none.
	Timeout time.Duration
	Stdio   streams.Stdio
}

// ExecResult is how a command ended.
type ExecResult struct {
	// ExitCode is 128 + n if signal n ended it.
	ExitCode int
	// TimedOut: it was killed because Timeout had passed.
	TimedOut bool
}

// Exec executes a command with the user, environment and confinement of the container's
// own process, and waits until it has ended and the client has taken all that it wrote
// until then. Processes that the command leaves behind may hold its output open; what
// they write later is lost. The error tells that the command was not executed, was
// canceled, or that its output did not reach the client.
func (d *Driver) Exec(ctx context.Context, c Container, e Exec) (ExecResult, error) {
	files := execFiles(c.Bundle, e.ID)
	defer files.remove()
	process, owner, err := files.write(c.Bundle, e)
	if err != nil {
		return ExecResult{}, err
	}
	request := monitor.ExecRequest{
		ContainerID: c.ID,
		ExecID:      e.ID,
		Runtime:     d.runtime.Path,
		Args:        append(d.globalArgs(files.log), "exec", "--detach", "--process", files.process, "--pid-file", files.pid, c.ID),
		PidFile:     files.pid,
		Env:         d.version.environment(),
		Terminal:    process.Terminal,
		Timeout:     e.Timeout,
	}
	var ended monitor.ExecResult
	if d.OwnKernel() {
		ended, err = insideExec{d, c, request, e.Stdio, execution{owner, process.ConsoleSize}, files.inside}.run(ctx)
	} else {
		ended, err = d.execute(ctx, request, e.Stdio, execution{owner: owner})
	}
	if err != nil {
		return ExecResult{}, runtimeFault("exec in container", c.ID, err)
	}
	return ExecResult{ExitCode: ended.Code, TimedOut: ended.TimedOut}, nil
}

// execution says how a command is executed.
type execution struct {
	// owner of its streams; nil leaves them root's.
	owner *monitor.Owner
	// size is given to its terminal; nil if the runtime does that.
	size *specs.Box
}

// execute runs the command between the client's streams.
func (d *Driver) execute(ctx context.Context, r monitor.ExecRequest, client streams.Stdio, how execution) (monitor.ExecResult, error) {
	pipes, err := newPipes(&r, client)
	if err != nil {
		return monitor.ExecResult{}, err
	}
	defer pipes.close()
	if err := give(how.owner, pipes.theirs); err != nil {
		return monitor.ExecResult{}, fmt.Errorf("give the command its streams: %w", err)
	}
	exec, err := d.monitor.StartExec(ctx, r)
	if err != nil {
		return monitor.ExecResult{}, err
	}
	if how.size != nil {
		_ = exec.Resize(uint16(how.size.Width), uint16(how.size.Height)) // fails if the command has ended
	}
	// Only now: what the runtime itself says of a failed start is in its log.
	pipes.copy(exec)
	ended, err := exec.Wait()
	return ended, errors.Join(err, pipes.finish())
}

// execPaths are the files of one exec, in the container's bundle. The pid inside is the command's
// on a kernel of the container's own.
type execPaths struct{ process, pid, inside, log string }

func execFiles(bundle, id string) execPaths {
	base := filepath.Join(bundle, "exec-"+id)
	return execPaths{process: base + ".json", pid: base + ".pid", inside: base + ".inside", log: base + ".log"}
}

// write makes the description of the process from that of the container's own, and also returns
// who owns its streams.
func (f execPaths) write(bundle string, e Exec) (process specs.Process, owner *monitor.Owner, err error) {
	if filepath.Dir(f.process) != filepath.Clean(bundle) {
		return process, nil, fault.New(fault.Invalid, "exec", "", "the id has path elements")
	}
	if len(e.Cmd) == 0 || e.Cmd[0] == "" {
		return process, nil, fault.New(fault.Invalid, "exec", "cmd", "is empty")
	}
	spec, err := readKept(bundle)
	if errors.Is(err, fs.ErrNotExist) {
		return process, nil, fault.New(fault.Precondition, "exec", "", "the container has no bundle: %v", err)
	}
	if err != nil {
		return process, nil, err
	}
	process = *spec.Process
	process.Args = e.Cmd
	setTerminal(&process, e.Stdio)
	data, err := json.Marshal(process)
	if err != nil {
		return process, nil, fmt.Errorf("exec: %w", err)
	}
	// Nobody reads it before it is whole, and the id is not used again.
	if err := os.WriteFile(f.process, data, 0o600); err != nil {
		return process, nil, fmt.Errorf("exec: %w", err)
	}
	return process, ownerOf(spec), nil
}

// setTerminal gives the command a terminal or takes it away. A new one has the size that
// the client's has by now, so that programs need not begin on one of 0 by 0 characters.
func setTerminal(process *specs.Process, client streams.Stdio) {
	process.ConsoleSize = nil
	switch client.Terminal {
	case streams.AsContainer:
		return
	case streams.Never:
		process.Terminal = false
		return
	case streams.Always:
	}
	process.Terminal = true
	select {
	case size, ok := <-client.Sizes:
		if ok {
			process.ConsoleSize = &specs.Box{Width: uint(size.Width), Height: uint(size.Height)}
		}
	default:
	}
	named := func(variable string) bool { return strings.HasPrefix(variable, "TERM=") }
	if !slices.ContainsFunc(process.Env, named) {
		process.Env = append(slices.Clip(process.Env), "TERM=xterm")
	}
}

func (f execPaths) remove() {
	for _, path := range []string{f.process, f.pid, f.inside, f.log} {
		// What stays goes with the bundle.
		_ = os.Remove(path)
	}
}
