package server

import (
	"io"
	"os"
)

// MaxOwnLog is the size of the monitor's own log, in bytes, at which it is emptied: it is
// in memory (tmpfs), and shared with all that the state directory has.
const MaxOwnLog = 1 << 20

// OwnLog returns a writer to the monitor's own log that empties the file when it would
// exceed max bytes. The file is open for appending; one that is not regular is never
// emptied. The writer is not safe for concurrent use.
func OwnLog(file *os.File, max int64) io.Writer { return &ownLog{file: file, max: max} }

type ownLog struct {
	file *os.File
	max  int64
}

func (l *ownLog) Write(p []byte) (int, error) {
	info, err := l.file.Stat()
	if err == nil && info.Mode().IsRegular() && info.Size()+int64(len(p)) > l.max {
		// If that fails the log grows, and nothing else depends on it.
		_ = l.file.Truncate(0)
	}
	return l.file.Write(p)
}
