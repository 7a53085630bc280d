package pump

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
	"github.com/stele-runtime/stele/executors/monitor/server/redo"
)

// stream is one pipe of a container, or its terminal.
type stream struct {
	out *Output
	// fd is -1 if there is only output from an earlier process.
	fd   int
	kind crilog.Stream
	// terminal: fd is a terminal's master.
	terminal bool
	// listed: it is in the pump's held.
	listed bool

	// carry is the beginning of a line that was read and not written yet. If there is
	// no memory for it, lines are written in pieces.
	carry redo.Carry
	// due is when carry is written even if the line has not ended.
	due time.Time
}

func (s *stream) readable(uint32) { s.turn(turnReads, false) }

// turn reads and writes. A read of less than redo.MaxRead has emptied the pipe for the
// moment; thorough makes it read on until the pipe is seen to be empty.
func (s *stream) turn(reads int, thorough bool) {
	for range reads {
		n, err := available(s.fd)
		if err != nil {
			s.out.pump.logger.Error("read a container's output", "stream", s.kind, "error", err)
			s.end()
			return
		}
		if n == 0 {
			if s.terminal {
				s.skipControl()
			}
			if s.hasEnded() {
				s.end()
			}
			return
		}
		s.transfer(min(n, redo.MaxRead))
		if n < redo.MaxRead && !thorough && !s.terminal {
			return
		}
	}
	if s.terminal {
		// Re-armed, so that the rest raises an event.
		s.out.pump.loop.change(s.fd, terminalEvents)
	}
}

// hasEnded reports whether nobody can write to an empty pipe any more. A terminal can
// be reopened as long as its container lives.
func (s *stream) hasEnded() bool {
	return (!s.terminal || s.out.exited) && hungUp(s.fd)
}

// transfer reads size bytes, which are available, and writes the complete lines.
func (s *stream) transfer(size int) {
	l := s.out.pump.redo.Flight()
	if s.out.log == nil {
		if data := s.read(l.Buffer()[:size]); len(data) > 0 {
			s.out.pass(s.kind, data)
		}
		return
	}
	op := s.op(crilog.Keep)
	if err := s.carry.Reserve(); err != nil {
		s.out.pump.complain(err)
		op.Rest = crilog.Part
	}
	buffer := l.Buffer()
	op.Carried = copy(buffer, s.carry.Bytes())
	l.Read(op, size, s.out.pump.peek.at(s, size))
	data := s.read(buffer[op.Carried:][:size])
	if len(data) == 0 {
		l.Done()
		return
	}
	now := time.Now()
	l.Landed(op, len(data), now)
	s.out.pass(s.kind, data)
	s.append(l, op, len(data), now)
}

// read reads from the pipe. It returns nothing if another process was faster, as a
// container can be: its end is open for reading too.
func (s *stream) read(into []byte) []byte {
	if s.terminal {
		return s.readPacket(into)
	}
	n, err := unix.Read(s.fd, into)
	if err != nil && err != unix.EAGAIN {
		s.out.pump.logger.Error("read a container's output that was there", "stream", s.kind, "error", err)
	}
	return into[:max(0, n)]
}

// readPacket reads from a terminal. It returns nothing for a control packet, which
// reports what a program did to the terminal.
func (s *stream) readPacket(into []byte) []byte {
	header := s.out.pump.redo.Flight().Header()
	n, err := unix.Readv(s.fd, [][]byte{header, into})
	if err != nil {
		s.out.pump.logger.Error("read a container's terminal that had output", "error", err)
	}
	if n <= 1 || header[0] != unix.TIOCPKT_DATA {
		return nil
	}
	return into[:n-1]
}

// skipControl takes a control packet from a terminal that seems to be empty. It takes
// no data, even if some arrived meanwhile.
func (s *stream) skipControl() {
	var header [1]byte
	_, _ = unix.Read(s.fd, header[:]) // mostly there is none
}

func (s *stream) op(rest crilog.Rest) redo.Op {
	return redo.Op{Key: s.carry.Key(), Stream: s.kind, Rest: rest}
}

// append writes what has landed, size bytes of it new.
func (s *stream) append(l *redo.Flight, op redo.Op, size int, now time.Time) {
	batch := crilog.Batch{
		Stream: op.Stream,
		Time:   now,
		Data:   l.Buffer()[:op.Carried+size],
		Rest:   op.Rest,
		Ledger: l,
	}
	rest := s.out.log.Append(s.out.pump.scratch, &batch)
	if op.Carried == 0 || len(rest) != len(batch.Data) {
		// It is another line than before.
		s.due = now.Add(s.out.pump.holdTime)
	}
	s.keep(l, rest)
}

// keep stores the beginning of a line, and ends the flight.
func (s *stream) keep(l *redo.Flight, rest []byte) {
	s.carry.Set(rest)
	l.Done()
	s.out.noteLost()
	if len(rest) > 0 {
		s.out.pump.hold(s)
	}
}

// emit writes the beginning of a line although more may follow.
func (s *stream) emit(now time.Time) {
	line := s.carry.Bytes()
	if len(line) == 0 {
		return
	}
	l := s.out.pump.redo.Flight()
	op := s.op(crilog.Part)
	op.Carried = copy(l.Buffer(), line)
	l.Landed(op, 0, now)
	s.append(l, op, 0, now)
}

// end closes a stream that has ended or is no longer wanted.
func (s *stream) end() {
	s.finish()
	s.out.pump.loop.remove(s.fd)
	_ = unix.Close(s.fd)
	s.out.ended(s)
}

// finish writes the end of a line that has no newline.
func (s *stream) finish() {
	if s.out.log != nil {
		s.emit(time.Now())
	}
	s.carry.Drop()
}
