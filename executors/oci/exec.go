package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/monitor"
)

// Exec is a command to execute in a running container.
type Exec struct {
	// ID is unique among the node's execs that run; it names files in the bundle.
	ID  string
	Cmd []string
	// Timeout for the command; 0 for none.
	Timeout time.Duration
}

// ExecResult is a command's output and how it ended.
type ExecResult struct {
	Stdout, Stderr []byte
	// Truncated: there was more output than MaxExecOutput; the rest was dropped.
	Truncated bool
	// ExitCode is 128 + n if signal n ended it.
	ExitCode int
	// TimedOut: it was killed because Timeout had passed.
	TimedOut bool
}

// ExecSync executes a command with the user, environment and confinement of the
// container's own process, and waits until it has ended. It returns what was
// written until the command ended, even if processes that the command left behind
// hold its output open. Where the container has a terminal, the command has one of its
// own, all of whose output is Stdout.
func (d *Driver) ExecSync(ctx context.Context, c Container, e Exec) (ExecResult, error) {
	files := execFiles(c.Bundle, e.ID)
	defer files.remove()
	terminal, err := files.write(c.Bundle, e.Cmd)
	if err != nil {
		return ExecResult{}, err
	}
	args := append(d.globalArgs(files.log), "exec", "--detach", "--process", files.process, "--pid-file", files.pid, c.ID)
	request := monitor.ExecRequest{
		ContainerID: c.ID,
		ExecID:      e.ID,
		Runtime:     d.runtime.Path,
		Args:        args,
		PidFile:     files.pid,
		Terminal:    terminal,
		Timeout:     e.Timeout,
	}
	output := newOutput()
	ended, err := d.collect(ctx, request, output)
	stdout, stderr, truncated, readErr := output.finish()
	if err != nil {
		return ExecResult{}, runtimeFault("exec in container", c.ID, err)
	}
	if readErr != nil {
		return ExecResult{}, fmt.Errorf("exec in container %s: read its output: %w", c.ID, readErr)
	}
	return ExecResult{Stdout: stdout, Stderr: stderr, Truncated: truncated, ExitCode: ended.Code, TimedOut: ended.TimedOut}, nil
}

// collect executes a command and collects what it writes until its end.
func (d *Driver) collect(ctx context.Context, r monitor.ExecRequest, into *output) (_ monitor.ExecResult, err error) {
	if !r.Terminal {
		if r.Stdout, r.Stderr, err = into.pipes(); err != nil {
			return monitor.ExecResult{}, err
		}
		return d.monitor.Exec(ctx, r)
	}
	exec, err := d.monitor.StartExec(ctx, r)
	if err != nil {
		return monitor.ExecResult{}, err
	}
	into.terminal(exec.Terminal)
	return exec.Wait()
}

// execPaths are the files of one exec, in the container's bundle.
type execPaths struct{ process, pid, log string }

func execFiles(bundle, id string) execPaths {
	base := filepath.Join(bundle, "exec-"+id)
	return execPaths{process: base + ".json", pid: base + ".pid", log: base + ".log"}
}

// write makes the description of the process from that of the container's own, and reports
// whether it has a terminal.
func (f execPaths) write(bundle string, cmd []string) (terminal bool, err error) {
	if filepath.Dir(f.process) != filepath.Clean(bundle) {
		return false, fault.New(fault.Invalid, "exec", "", "the id has path elements")
	}
	if len(cmd) == 0 || cmd[0] == "" {
		return false, fault.New(fault.Invalid, "exec", "cmd", "is empty")
	}
	spec, err := readConfig(bundle)
	if errors.Is(err, fs.ErrNotExist) {
		return false, fault.New(fault.Precondition, "exec", "", "the container has no bundle: %v", err)
	}
	if err != nil {
		return false, err
	}
	process := *spec.Process
	process.Args, process.ConsoleSize = cmd, nil
	data, err := json.Marshal(process)
	if err != nil {
		return false, fmt.Errorf("exec: %w", err)
	}
	if err := replaceFile(f.process, data); err != nil {
		return false, fmt.Errorf("exec: %w", err)
	}
	return process.Terminal, nil
}

func (f execPaths) remove() {
	for _, path := range []string{f.process, f.pid, f.log} {
		// What stays goes with the bundle.
		_ = os.Remove(path)
	}
}
