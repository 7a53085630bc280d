package monitor

import (
	"errors"
	"fmt"
	"strings"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

var (
	// ErrNotFound: the monitor does not know the container.
	ErrNotFound = errors.New("the monitor doesn't know the container")
	// ErrRunning: the call needs the container to have ended.
	ErrRunning = errors.New("the container still runs")
	// ErrUnimplemented: the monitor can't do that.
	ErrUnimplemented = errors.New("the monitor can't do that")
	// ErrLost: the monitor ended during the call, whose outcome is unknown.
	ErrLost = errors.New("the monitor was lost")
	// ErrClosed: the Client was closed.
	ErrClosed = errors.New("the monitor's client is closed")
)

// RuntimeError is a failure of the OCI runtime.
type RuntimeError struct {
	// Op is "create" or "exec".
	Op string
	// ExitCode is the runtime's own; 128 + n when signal n ended it.
	ExitCode int
	// TimedOut: the monitor killed it at the deadline.
	TimedOut bool
	// Message is the last error in its log (--log); empty if there is none.
	Message string
	// Stderr is the end of its standard error, at most 4 KiB; empty for exec, whose
	// standard error is the caller's.
	Stderr string
}

func (e *RuntimeError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: the runtime ", e.Op)
	if e.TimedOut {
		b.WriteString("was killed at the deadline")
	} else {
		fmt.Fprintf(&b, "ended with code %d", e.ExitCode)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	} else if e.Stderr != "" {
		b.WriteString(": " + e.Stderr)
	}
	return b.String()
}

// failureError returns the error for a failure of the protocol.
func failureError(f *pb.Failure) error {
	kind := map[pb.Failure_Code]error{
		pb.Failure_CODE_NOT_FOUND:     ErrNotFound,
		pb.Failure_CODE_RUNNING:       ErrRunning,
		pb.Failure_CODE_UNIMPLEMENTED: ErrUnimplemented,
	}[f.Code]
	if kind != nil {
		return fmt.Errorf("%w: %s", kind, f.Message)
	}
	return fmt.Errorf("the monitor says: %s", f.Message)
}
