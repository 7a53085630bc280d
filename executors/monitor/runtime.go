package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// nextRuntime is next for a request that executes the runtime: it makes a
// *RuntimeError of what that said.
func (c *call) nextRuntime(ctx context.Context, op string, args []string) (frame, error) {
	f, err := c.next(ctx)
	failure := c.failure
	if failure.GetCode() != pb.Failure_CODE_RUNTIME {
		return f, err
	}
	return frame{}, &RuntimeError{
		Op:       op,
		ExitCode: int(failure.Runtime.GetExitCode()),
		TimedOut: failure.Runtime.GetTimedOut(),
		Message:  logMessage(args),
		Stderr:   string(failure.Runtime.GetStderr()),
	}
}

// logMessage returns the last error in the file that a runtime was told to log
// to: the `msg` of a line in JSON, or the last line as it is.
func logMessage(args []string) string {
	path := ""
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, "--log="); ok {
			path = value
		} else if arg == "--log" && i+1 < len(args) {
			path = args[i+1]
		}
	}
	if path == "" {
		return ""
	}
	const enough = 16 << 10
	data, err := readTail(path, enough)
	if err != nil {
		return ""
	}
	message := ""
	for line := range bytes.Lines(data) {
		var entry struct{ Level, Msg string }
		if err := json.Unmarshal(line, &entry); err != nil {
			entry.Level, entry.Msg = "error", string(bytes.TrimSpace(line))
		}
		if entry.Level == "error" || entry.Level == "fatal" {
			message = entry.Msg
		}
	}
	return message
}
