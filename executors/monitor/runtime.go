package monitor

import (
	"bytes"
	"encoding/json"
	"strings"
)

// logMessage returns the last error in the runtime's log file (--log): the `msg` of a
// JSON line, or else the last line as it is.
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
