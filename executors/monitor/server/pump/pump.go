package pump

import (
	"errors"
	"log/slog"
	"time"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
	"github.com/stele-runtime/stele/executors/monitor/server/redo"
)

const (
	// turnReads is how many reads a stream gets before others get theirs.
	turnReads = 8
	// drainReads is how many it gets when its container has ended: more than the
	// largest pipe holds, but bounded, since other processes may still write.
	drainReads = 64
	// holdTime is how long the beginning of a line is held back, so that with the rest
	// of the line it makes one record.
	holdTime = 250 * time.Millisecond
)

// ErrStopped: the pump was stopped.
var ErrStopped = errors.New("the log pump has stopped")

// Pump reads any number of streams. Its fields belong to the goroutine of Run.
type Pump struct {
	logger  *slog.Logger
	loop    *loop
	peek    *peek
	redo    *redo.File
	scratch *crilog.Scratch
	// holdTime is the constant's; tests have longer ones.
	holdTime time.Duration
	// left are the flights of an earlier process.
	left []*redo.Flight
	// held are the streams with an unfinished line, by the time when they are due.
	held []*stream
	// untold are the outputs with unreported losses.
	untold []*Output
	// pending is how many bytes clients have not taken yet.
	pending int
	// complained: a full redo file was logged.
	complained bool
}

// New returns a pump, for Run, that neither loses nor repeats output when its process
// is killed, at any instant, provided that the next process
//
//  1. opens the same redo file for its pump;
//  2. attaches or offers, for each container, the same pipes or terminal, with a log
//     of the same path: what the redo file holds of a stream is written before
//     anything is read from it;
//  3. calls Finish for each container whose pipes are gone;
//  4. calls Settle when no more of them can be offered.
//
// Without a log (nil) what the file holds of a stream is dropped, as its output is. The
// pump owns the file until Run has returned; then the caller can close it.
func New(logger *slog.Logger, file *redo.File) (*Pump, error) {
	loop, err := newLoop(logger)
	if err != nil {
		return nil, err
	}
	peek, err := newPeek()
	if err != nil {
		loop.close()
		return nil, err
	}
	return &Pump{logger: logger, loop: loop, peek: peek, redo: file, scratch: crilog.NewScratch(), holdTime: holdTime, left: file.Left()}, nil
}

// Run reads until Stop.
func (p *Pump) Run() error { return p.loop.run(p.timeout, p.round) }

// Stop makes Run return, after the calls made before.
func (p *Pump) Stop() { p.loop.stop() }

// round does what is due.
func (p *Pump) round(now time.Time) {
	p.release(now)
	p.tellLosses(now)
}

// hold lists a stream among those with an unfinished line.
func (p *Pump) hold(s *stream) {
	if !s.listed {
		s.listed = true
		p.held = append(p.held, s)
	}
}

// timeout returns how long to wait for events, in milliseconds.
func (p *Pump) timeout() int {
	var due time.Time
	if len(p.held) > 0 {
		due = p.held[0].due
	}
	for _, o := range p.untold {
		if due.IsZero() || o.tellDue().Before(due) {
			due = o.tellDue()
		}
	}
	if due.IsZero() {
		return -1
	}
	return max(0, int((time.Until(due)+time.Millisecond-1)/time.Millisecond))
}

// release writes the unfinished lines that were held back long enough. A stream that
// has begun another line meanwhile goes to the end of the list.
func (p *Pump) release(now time.Time) {
	for len(p.held) > 0 {
		s := p.held[0]
		if len(s.carry.Bytes()) > 0 && s.due.After(now) {
			return
		}
		p.held = p.held[1:]
		s.listed = false
		s.emit(now)
	}
	p.held = nil
}

// complain logs, once, that unfinished lines can't be held back.
func (p *Pump) complain(err error) {
	if !p.complained {
		p.complained = true
		p.logger.Error("there is no memory to hold back unfinished lines", "error", err)
	}
}
