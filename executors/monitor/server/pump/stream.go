package pump

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
)

// stream is one pipe of a container.
type stream struct {
	pump *Pump
	out  *Output
	fd   int
	kind crilog.Stream

	// tail is the beginning of a line that was read and not written yet, at
	// most crilog.MaxContent bytes.
	tail []byte
	// due is when tail is written although the line has not ended.
	due    time.Time
	listed bool
}

func (s *stream) readable(uint32) { s.turn(turnReads, false) }

// turn reads and writes. A read that returns less than it asked for has emptied
// the pipe; thorough wants to see that with its own eyes (a pipe in packet mode
// gives one packet a read).
func (s *stream) turn(reads int, thorough bool) {
	in := s.pump.in
	have := copy(in, s.tail)
	fresh := have == 0
	ended := false
	for range reads {
		n, err := unix.Read(s.fd, in[have:have+readSize])
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			break
		}
		if n <= 0 {
			ended = true
			break
		}
		s.out.pass(s.kind, in[have:have+n])
		if s.out.log != nil {
			rest := s.out.log.Append(s.pump.scratch, time.Now(), s.kind, in[:have+n])
			fresh = fresh || len(rest) != have+n
			have = copy(in, rest)
		}
		if n < readSize && !thorough {
			break
		}
	}
	s.out.noteLost()
	s.keep(in[:have], fresh)
	if ended {
		s.end()
	}
}

// keep remembers the beginning of a line. fresh says that it is another one than
// before.
func (s *stream) keep(tail []byte, fresh bool) {
	if len(tail) == 0 {
		const small = 1 << 10
		if cap(s.tail) > small {
			s.tail = nil
		}
		s.tail = s.tail[:0]
		return
	}
	s.tail = append(s.tail[:0], tail...)
	if fresh {
		s.due = time.Now().Add(holdTime)
	}
	s.pump.hold(s)
}

func (s *stream) flushTail(now time.Time) {
	s.out.log.Partial(s.pump.scratch, now, s.kind, s.tail)
	s.tail = nil
	s.out.noteLost()
}

// end closes a stream that nobody can write to any more, or that nobody wants.
func (s *stream) end() {
	if s.out.log != nil {
		s.out.log.End(s.pump.scratch, time.Now(), s.kind, s.tail)
		s.out.noteLost()
	}
	s.tail = nil
	s.pump.remove(s.fd)
	_ = unix.Close(s.fd)
	s.out.ended(s)
}
