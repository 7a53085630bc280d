package pump

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
)

// Output is one container's output. Its exported methods may be called by any
// goroutine.
type Output struct {
	pump *Pump
	// The rest belongs to the goroutine of Pump.Run.
	log *crilog.File
	// streams are those that are read, by kind.
	streams [2]*stream
	clients []*client
	// began: there was a stream. Until then there may be one yet.
	began bool
	// exited: the container's first process has.
	exited bool
	// tell takes reports of losses; nil for nobody.
	tell func(bytes int64, reason error)
	// losses is nil until there was one.
	losses *losses
}

// Pipes are the read ends of a container's pipes, non-blocking; -1 for none.
type Pipes struct{ Stdout, Stderr int }

// Attach begins to read pipes into log; without a log, output is dropped. The pump owns
// the descriptors and the log.
func (p *Pump) Attach(pipes Pipes, log *crilog.File) (*Output, error) {
	o := &Output{pump: p, log: log}
	if err := o.Offer(pipes); err != nil {
		if log != nil {
			log.Close()
		}
		return nil, err
	}
	return o, nil
}

// Offer begins to read those pipes that are not read yet, and closes the others.
func (o *Output) Offer(pipes Pipes) error {
	var addErr error
	err := o.pump.loop.call(func() {
		o.pump.completeWrites(o.log)
		o.openAgain(pipes)
		if addErr = errors.Join(o.offer(crilog.Stdout, pipes.Stdout), o.offer(crilog.Stderr, pipes.Stderr)); addErr != nil {
			o.closeStreams()
		}
		o.closeIfDone()
	})
	if err == nil {
		err = addErr
	}
	if err != nil {
		return fmt.Errorf("read a container's output: %w", err)
	}
	return nil
}

// openAgain reopens a log that was closed when there seemed to be no more output.
func (o *Output) openAgain(pipes Pipes) {
	if o.log == nil || !o.began || o.isRead() || pipes.Stdout < 0 && pipes.Stderr < 0 {
		return
	}
	if err := o.log.Reopen(); err != nil {
		o.pump.logger.Error("reopen the log of a container", "error", err) // further output is counted as lost
	}
}

func (o *Output) offer(kind crilog.Stream, fd int) error {
	if fd < 0 {
		return nil
	}
	if o.streams[kind] != nil {
		_ = unix.Close(fd)
		return nil
	}
	key, err := identify(fd)
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	s := &stream{out: o, fd: fd, kind: kind, terminal: key.Terminal > 0}
	events := uint32(unix.EPOLLIN)
	if s.terminal {
		events = terminalEvents
		if err := packets(fd); err != nil {
			_ = unix.Close(fd)
			return err
		}
	}
	if err := o.pump.loop.add(fd, events, s); err != nil {
		_ = unix.Close(fd)
		return err
	}
	s.recover(key)
	o.streams[kind], o.began = s, true
	return nil
}

func (o *Output) isRead() bool { return o.streams != [2]*stream{} }

// ended is called by a stream that has closed its pipe.
func (o *Output) ended(s *stream) {
	o.streams[s.kind] = nil
	o.closeIfDone()
}

// closeIfDone closes the log when all streams have ended.
func (o *Output) closeIfDone() {
	if o.isRead() || !o.began {
		return
	}
	if o.log != nil {
		o.log.Close()
	}
	o.tellLost()
	for _, k := range slices.Clone(o.clients) {
		k.end()
	}
}

// Drain is called when the container has exited. It writes what the pipes hold now, and
// then calls then, in the pump's goroutine, which must not block. Afterwards a terminal
// that nobody has open counts as ended, as a pipe always does.
func (o *Output) Drain(then func()) error {
	if !o.pump.loop.do(func() { o.exited = true; o.drain(); then() }) {
		return ErrStopped
	}
	return nil
}

func (o *Output) drain() {
	for _, s := range o.streams {
		if s != nil {
			s.turn(drainReads, true)
		}
	}
}

// Reopen reopens the log by its path: see crilog.File.
func (o *Output) Reopen() error {
	var reopenErr error
	err := o.pump.loop.call(func() {
		if o.log == nil {
			return
		}
		if reopenErr = o.log.Reopen(); reopenErr == nil {
			o.pump.completeWrites(o.log)
		}
		o.closeIfDone()
	})
	if err != nil {
		return err
	}
	return reopenErr
}

// Lost returns how many bytes the log refused, and the last reason.
func (o *Output) Lost() (bytes int64, reason error) {
	_ = o.pump.loop.call(func() {
		if o.log != nil {
			bytes, reason = o.log.Lost()
		}
	})
	return bytes, reason
}

// Duplicate returns duplicates of the pipes that are still read. The caller closes
// them.
func (o *Output) Duplicate() (Pipes, error) {
	pipes := Pipes{Stdout: -1, Stderr: -1}
	var dupErr error
	err := o.pump.loop.call(func() {
		for _, s := range o.streams {
			if s == nil {
				continue
			}
			fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 3)
			if err != nil {
				dupErr = fmt.Errorf("duplicate the pipe of %s: %w", s.kind, err)
				return
			}
			if s.kind == crilog.Stdout {
				pipes.Stdout = fd
			} else {
				pipes.Stderr = fd
			}
		}
	})
	if err == nil {
		err = dupErr
	}
	if err != nil {
		pipes.Close()
		return Pipes{Stdout: -1, Stderr: -1}, err
	}
	return pipes, nil
}

// Close closes the pipes.
func (p Pipes) Close() {
	for _, fd := range []int{p.Stdout, p.Stderr} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// Close writes what the pipes hold now, and closes them and the log.
func (o *Output) Close() error {
	return o.pump.loop.call(func() {
		o.drain()
		o.closeStreams()
		o.began = true
		o.closeIfDone()
	})
}

func (o *Output) closeStreams() {
	for _, s := range o.streams {
		if s != nil {
			s.end()
		}
	}
}
