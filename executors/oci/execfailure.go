package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor"
)

const (
	// exitPause is the pause between two questions for an exit that is on its way.
	exitPause = 5 * time.Millisecond
	// logTail is how much of a log is read for the runtime's last line, in bytes.
	logTail = 16 << 10
)

// failedExecs is how a runtime reports that it could not execute the program, when
// nobody but the container's output is left to report to.
var failedExecs = map[string]struct {
	code int
	// line matches the last line of the output.
	line *regexp.Regexp
}{
	runc: {255, regexp.MustCompile(`^exec .+: .`)},
	crun: {1, regexp.MustCompile(`exec container process .+: .`)},
}

// execFailure returns why the first process, which has ended, could not execute the
// program; empty if it had executed it: nothing but code and output tells them apart.
func (d *Driver) execFailure(ctx context.Context, c Container) (string, error) {
	failed := failedExecs[d.version.Name]
	for {
		known, err := d.monitor.Container(ctx, c.ID)
		if err != nil {
			return "", runtimeFault("start container", c.ID, err)
		}
		if exit := known.Exit; exit != nil {
			if exit.Code != failed.code || exit.Unknown != "" || known.LogPath == "" {
				return "", nil
			}
			// What the pipes still hold is in the log once that was opened anew.
			if err := d.monitor.ReopenLog(ctx, c.ID); err != nil && !errors.Is(err, monitor.ErrNotFound) {
				return "", runtimeFault("start container", c.ID, err)
			}
			last, err := lastLine(known.LogPath)
			if err != nil || !failed.line.Match(last) {
				return "", err
			}
			return string(last), nil
		}
		select {
		case <-ctx.Done():
			return "", runtimeFault("start container", c.ID, fmt.Errorf("its first process has ended, but its exit is not known: %w", context.Cause(ctx)))
		case <-time.After(exitPause):
		}
	}
}

// lastLine returns the text of the last record of a CRI log, without its end of line.
func lastLine(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the container's log: %w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("read the container's log: %w", err)
	}
	tail, err := io.ReadAll(io.NewSectionReader(f, max(0, size-logTail), logTail))
	if err != nil {
		return nil, fmt.Errorf("read the container's log: %w", err)
	}
	tail = bytes.TrimRight(tail, "\n")
	record := tail[bytes.LastIndexByte(tail, '\n')+1:]
	// A record is: time, stream, tag, text.
	fields := bytes.SplitN(record, []byte(" "), 4)
	if len(fields) < 4 {
		return nil, nil
	}
	return bytes.TrimSpace(fields[3]), nil
}
