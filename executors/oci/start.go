package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
)

// startDeadline bounds the wait for a container's first process to continue.
const startDeadline = 30 * time.Second

// Started is a start that succeeded.
type Started struct {
	// At is when the user's program was seen to run, to within a few hundredths of a
	// millisecond, or when it was let run, if it ended unseen; never after its end. Zero if
	// Before.
	At time.Time
	// Before: an earlier call had started the container.
	Before bool
}

// Start lets the user's program run, and returns once it does: until it is executed,
// signals reach the runtime's own program. A container that was started before is
// success; one whose first process ended before that, or whose program can't be
// executed, is fault.Precondition.
//
// A container that runc created waits until somebody opens the FIFO exec.fifo in
// its state directory for reading. Doing that here takes a fiftieth of the time
// that executing `runc start` does, which does nothing else: runc runs the hooks for
// after the start when it creates a container.
// The price: if this process is killed in the microseconds between the opening
// and the container's answer, the container's first process ends, and the start
// has failed.
func (d *Driver) Start(ctx context.Context, c Container) (Started, error) {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	if d.version.Name != runc {
		return d.startByCommand(ctx, c)
	}
	init, err := findInit(c)
	if err != nil {
		return Started{}, err
	}
	defer init.close()
	init.past = !init.isRuntimes() // read after the map was opened
	fifo := filepath.Join(d.stateDir(c.ID), "exec.fifo")
	// The program may have ended before anybody looks again.
	released := time.Now()
	fd, err := unix.Open(fifo, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) {
		if _, err := os.Stat(d.stateDir(c.ID)); err != nil {
			return Started{}, fault.New(fault.Precondition, "start container", c.ID, "the runtime doesn't have it: %v", err)
		}
		// It goes away when the container has continued.
		return Started{Before: true}, init.awaitName(ctx, c)
	}
	if err != nil {
		return Started{}, fmt.Errorf("start container %s: %w", c.ID, &fs.PathError{Op: "open", Path: fifo, Err: err})
	}
	defer unix.Close(fd)
	before, err := init.awaitContinued(ctx, c, fd)
	if err != nil {
		return Started{}, err
	}
	if err := os.Remove(fifo); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Started{}, fmt.Errorf("start container %s: %w", c.ID, err)
	}
	if before {
		return Started{Before: true}, init.awaitName(ctx, c)
	}
	return d.awaitProgram(ctx, c, init, released)
}

// awaitProgram returns once the first process, which was released, executes the program,
// or can't.
func (d *Driver) awaitProgram(ctx context.Context, c Container, init *firstProcess, released time.Time) (Started, error) {
	at, seen, err := init.awaitExec(ctx)
	switch {
	case err != nil:
		return Started{}, runtimeFault("start container", c.ID, fmt.Errorf("its program is not executed: %w", err))
	case seen:
		return Started{At: at}, nil
	}
	reason, err := d.execFailure(ctx, c)
	if err != nil {
		return Started{}, err
	}
	if reason != "" {
		return Started{}, fault.New(fault.Precondition, "start container", c.ID, "its program can't be executed: %s", reason)
	}
	return Started{At: released}, nil
}

// fifoWritten takes the byte that the process writes. End of file means nothing: a
// FIFO without a writer is always there.
func fifoWritten(fd int) (bool, error) {
	var b [1]byte
	n, err := unix.Read(fd, b[:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return false, nil
	}
	return n > 0, err
}

// startByCommand runs the runtime's command. If that fails, the container's state
// shows whether it had been started before. crun's command, too, returns before the
// program is executed. A runtime whose first process is not the user's, such as
// gVisor's, has to be believed.
func (d *Driver) startByCommand(ctx context.Context, c Container) (Started, error) {
	var init *firstProcess
	if d.version.Name == crun {
		var err error
		if init, err = findInit(c); err != nil {
			return Started{}, err
		}
		defer init.close()
	}
	// The time before: a program may have ended when the command returns.
	at := time.Now()
	_, err := d.run(ctx, "start container", c.ID, append(d.globalArgs(""), "start", c.ID)...)
	if err == nil && init != nil {
		return d.awaitProgram(ctx, c, init, at)
	}
	if err == nil {
		return Started{At: at}, nil
	}
	status, stateErr := d.status(ctx, c.ID)
	if stateErr == nil && (status == "running" || status == "stopped") {
		return Started{Before: true}, nil
	}
	return Started{}, errors.Join(err, stateErr)
}

// status asks the runtime for a container's state, after it refused a command that
// may have been done before.
func (d *Driver) status(ctx context.Context, id string) (string, error) {
	out, err := d.run(ctx, "ask for the state of container", id, append(d.globalArgs(""), "state", id)...)
	if err != nil {
		return "", err
	}
	var state struct{ Status string }
	if err := json.Unmarshal(out, &state); err != nil {
		return "", fmt.Errorf("ask for the state of container %s: %w", id, err)
	}
	return state.Status, nil
}

func readPid(path string) (int, error) {
	data, err := readSmall(path)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(data)))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("%s: no pid: %q", path, data)
	}
	return pid, nil
}

// readSmall reads a file of which the first 64 KiB are enough.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}
