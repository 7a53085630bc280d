package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/stele-runtime/stele/actors/fault"
)

const (
	// callDeadline bounds a command that the driver executes itself. The slowest
	// is a forced delete, in which runc waits up to ten seconds.
	callDeadline = 30 * time.Second
	// maxOutput bounds what is kept of a command's output, in bytes.
	maxOutput = 1 << 20
	// pipeWait is how long processes that a command left behind (gVisor's) may keep
	// its output open.
	pipeWait = 100 * time.Millisecond
)

// run executes a command of the runtime and returns its standard output.
func (d *Driver) run(ctx context.Context, op, subject string, args ...string) ([]byte, error) {
	return d.runWith(ctx, nil, op, subject, args...)
}

// runWith is run with standard input.
func (d *Driver) runWith(ctx context.Context, stdin io.Reader, op, subject string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	stdout, stderr := bounded{left: maxOutput}, bounded{left: maxOutput}
	cmd := exec.CommandContext(ctx, d.runtime.Path, args...)
	cmd.Dir = "/"
	cmd.Env = d.version.environment()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	// A signal to the daemon must not kill a runtime half-way.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = pipeWait
	err := cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() {
		return stdout.data, nil
	}
	kind := fault.Internal
	if ctx.Err() != nil {
		kind = fault.Deadline
		err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	}
	return nil, &CommandError{
		Fault:   fault.New(kind, op, subject, "%s: %v", d.runtime.Name, describe(err, stderr.data)),
		Missing: errors.Is(err, os.ErrNotExist),
	}
}

// environment is the runtime's own. runc, which makes one system call after the other, is to use
// one thread: more are only started and ended. Its init, too, has that from it, and takes it from
// its environment before the container's program gets one. gVisor's kernel would keep it.
func (v Version) environment() []string {
	environment := []string{"PATH=" + os.Getenv("PATH")}
	if v.Name == runc {
		environment = append(environment, "GOMAXPROCS=1")
	}
	return environment
}

// CommandError says that a command of the runtime failed.
type CommandError struct {
	Fault *fault.Fault
	// Missing: the runtime's executable is gone.
	Missing bool
}

func (e *CommandError) Error() string { return e.Fault.Error() }
func (e *CommandError) Unwrap() error { return e.Fault }

// describe joins how a command ended and its last message: runtimes write a line in
// JSON, or plain text.
func describe(err error, stderr []byte) string {
	message := ""
	for line := range bytes.Lines(stderr) {
		var entry struct{ Level, Msg string }
		line = bytes.TrimSpace(line)
		if json.Unmarshal(line, &entry) != nil {
			entry.Msg = string(line)
		}
		if entry.Level == "warning" || entry.Level == "info" || entry.Level == "debug" || entry.Msg == "" {
			continue
		}
		message = entry.Msg
	}
	if message == "" {
		return err.Error()
	}
	return fmt.Sprintf("%v: %s", err, strings.TrimSpace(message))
}

// bounded keeps the first bytes that are written to it and discards the rest.
type bounded struct {
	data []byte
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	b.data = append(b.data, p[:n]...)
	return len(p), nil
}
