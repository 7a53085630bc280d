package pump

import (
	"slices"
	"time"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
	"github.com/stele-runtime/stele/executors/monitor/server/redo"
)

// Gone names, by inode, a container's pipes that no process has any more; 0 for one
// that never was.
type Gone struct{ Stdout, Stderr uint64 }

// Holds reports whether the redo file has something of pipes that are gone.
func (p *Pump) Holds(gone Gone) bool {
	held := false
	_ = p.loop.call(func() {
		wanted := func(key redo.Key) bool { return key == pipeKey(gone.Stdout) || key == pipeKey(gone.Stderr) }
		held = slices.ContainsFunc(p.left, func(l *redo.Flight) bool { return wanted(l.Key()) }) ||
			slices.ContainsFunc(p.redo.Carries(), func(c redo.Carry) bool { return wanted(c.Key()) })
	})
	return held
}

// Finish writes what the redo file holds of pipes that are gone, and closes the log,
// also after an error. It skips pipes that the pump reads, and may be called twice.
func (p *Pump) Finish(gone Gone, log *crilog.File) error {
	err := p.loop.call(func() { p.finish(gone, log) })
	if err != nil && log != nil {
		log.Close()
	}
	return err
}

func (p *Pump) finish(gone Gone, log *crilog.File) {
	o := &Output{pump: p, log: log, began: true}
	p.completeWrites(log)
	read := p.keys()
	for kind, inode := range map[crilog.Stream]uint64{crilog.Stdout: gone.Stdout, crilog.Stderr: gone.Stderr} {
		if key := pipeKey(inode); inode != 0 && !read[key] {
			s := &stream{out: o, fd: -1, kind: kind}
			s.recover(key)
			s.finish()
		}
	}
	o.closeIfDone()
}

// keys returns the keys of the streams that are read.
func (p *Pump) keys() map[redo.Key]bool {
	keys := map[redo.Key]bool{}
	for _, r := range p.loop.ready {
		if s, ok := r.(*stream); ok {
			keys[s.carry.Key()] = true
		}
	}
	return keys
}

// Settle drops what the redo file still holds of streams that were not attached or
// finished, and returns how many bytes that was.
func (p *Pump) Settle() (dropped int64, err error) {
	err = p.loop.call(func() { dropped = p.settle() })
	return dropped, err
}

func (p *Pump) settle() (dropped int64) {
	read, landing := p.keys(), map[redo.Key]bool{}
	for _, l := range p.left {
		if progress, ok := l.Recover(time.Now()); ok {
			landing[l.Key()] = true
			dropped += int64(len(progress.Batch.Data) - progress.Note.To)
		}
		l.Done()
	}
	p.left = nil
	for _, c := range p.redo.Carries() {
		if read[c.Key()] {
			continue
		}
		// What was about to be written with other output counts once.
		if !landing[c.Key()] {
			dropped += int64(len(c.Bytes()))
		}
		c.Drop()
	}
	return dropped
}

// completeWrites completes the writes to a log during which an earlier process was
// killed, of whatever stream: nothing may be written after them before.
func (p *Pump) completeWrites(log *crilog.File) {
	if log == nil {
		return
	}
	for _, l := range p.left {
		progress, ok := l.Recover(time.Now())
		if !ok || !progress.Begun {
			continue
		}
		if _, err := log.Complete(p.scratch, &progress.Batch, progress.Note); err != nil {
			p.logger.Error("complete a write to a log", "error", err)
		}
	}
}

// recover takes over what an earlier process had of the stream.
func (s *stream) recover(key redo.Key) {
	s.carry = s.out.pump.redo.Carry(key)
	s.out.pump.left = slices.DeleteFunc(s.out.pump.left, func(l *redo.Flight) bool {
		if l.Key() != key {
			return false
		}
		s.land(l)
		return true
	})
	if s.out.log == nil {
		s.carry.Drop()
	}
	if len(s.carry.Bytes()) > 0 {
		s.due = time.Now().Add(s.out.pump.holdTime)
		s.out.pump.hold(s)
	}
}

// land completes an earlier process's flight.
func (s *stream) land(l *redo.Flight) {
	progress, ok := l.Recover(time.Now())
	if !ok || s.out.log == nil {
		l.Done()
		return
	}
	batch := &progress.Batch
	if err := s.carry.Reserve(); err != nil {
		s.out.pump.complain(err)
		batch.Rest = l.KeepNothing()
	}
	var rest []byte
	if progress.Noted {
		rest = s.out.log.Resume(s.out.pump.scratch, batch, progress.Note, progress.Begun)
	} else {
		rest = s.out.log.Append(s.out.pump.scratch, batch)
	}
	s.keep(l, rest)
}
