package redo

import (
	"bytes"
	"crypto/rand"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
)

// Op is one step of a stream's output: the carry, and what is read after it, are
// written as a batch.
type Op struct {
	Key    Key
	Stream crilog.Stream
	Rest   crilog.Rest
	// Carried is how many bytes at the beginning of Buffer come from the carry.
	Carried int
}

// Flight takes some output from its pipe to its log and its carry, in the order
//
//	Read, Landed, { Writing, Written }, Done
//
// or without Read if there is nothing to read. It is a crilog.Ledger.
type Flight struct {
	file  *File
	index int
	at    int
	head  *flightHead
}

func (f *File) flightAt(index int) *Flight {
	at := flightsAt + index*flightSize
	return &Flight{file: f, index: index, at: at, head: (*flightHead)(unsafe.Pointer(&f.mem[at]))}
}

// Flight returns the idle one for new work.
func (f *File) Flight() *Flight { return f.flight }

// Left returns those that an earlier process did not complete.
func (f *File) Left() []*Flight {
	var left []*Flight
	for i := range flights {
		if l := f.flightAt(i); i != f.flight.index && l.state() != idle {
			left = append(left, l)
		}
	}
	return left
}

func (l *Flight) state() uint32 { return l.file.head.states[l.index].Load() }

func (l *Flight) set(state uint32) {
	l.file.step()
	l.file.head.states[l.index].Store(state)
	l.file.step()
}

// Buffer has the data; it is MaxCarry + MaxRead bytes long.
func (l *Flight) Buffer() []byte { return l.file.mem[l.at+pageSize : l.at+flightSize] }

// Header is the destination of a packet's header, 1 byte: terminals are read in packet
// mode, and the header precedes the data.
func (l *Flight) Header() []byte { return l.head.header[:] }

// Key returns the stream's key.
func (l *Flight) Key() Key { return l.head.op.key }

// Read is called before size bytes are read to Buffer()[op.Carried:]. peeked is their
// beginning, if it is known; at most Short bytes are used.
func (l *Flight) Read(op Op, size int, peeked []byte) {
	l.put(op)
	l.head.op.asked = int64(size)
	l.head.header[0] = unread
	l.markPlace(peeked)
	l.set(reading)
}

// Landed is called when size bytes were read, or with 0 if there is nothing to read; op
// must be the same as in Read. now is the time of their records.
func (l *Flight) Landed(op Op, size int, now time.Time) {
	l.put(op)
	l.head.op.read, l.head.op.time = int64(size), now.UnixNano()
	l.set(landed)
}

func (l *Flight) put(op Op) {
	r := &l.head.op
	r.key, r.stream, r.rest, r.carried = op.Key, op.Stream, op.Rest, int64(op.Carried)
}

// Writing implements crilog.Ledger.
func (l *Flight) Writing(n crilog.Note) {
	// Not the note that is valid.
	next := uint32(0)
	if l.state() == written0 {
		next = 1
	}
	l.head.notes[next] = n
	l.set(writing0 + next)
}

// Written implements crilog.Ledger.
func (l *Flight) Written() {
	switch l.state() {
	case writing0:
		l.set(written0)
	case writing1:
		l.set(written1)
	}
}

// Done is called when everything is in the log or in the carry.
func (l *Flight) Done() {
	l.set(idle)
	switch {
	case l.index == l.file.flight.index:
	case l.file.spare == nil:
		l.file.spare = l
	default:
		l.file.free(l.at, flightSize)
	}
}

// KeepNothing makes a left flight write its rest, because the carry has no room for it.
// It returns the flight's Rest.
func (l *Flight) KeepNothing() crilog.Rest {
	l.head.op.rest = max(l.head.op.rest, crilog.Part)
	return l.head.op.rest
}

// Progress is how far a left flight got.
type Progress struct {
	// Batch is all of its output.
	Batch crilog.Batch
	// Note describes the last write, if Noted. Begun: the write may be incomplete.
	Note         crilog.Note
	Noted, Begun bool
}

// Recover examines a left flight. ok is false if nothing was read: then the stream has
// only its carry. It can be called again at any time.
func (l *Flight) Recover(now time.Time) (p Progress, ok bool) {
	if l.state() == reading {
		size := l.arrived()
		if size == 0 {
			return Progress{}, false
		}
		l.head.op.read, l.head.op.time = int64(size), now.UnixNano()
		l.set(landed)
	}
	r := &l.head.op
	p.Batch = crilog.Batch{
		Stream: r.stream,
		Time:   time.Unix(0, r.time),
		Data:   l.Buffer()[:r.carried+r.read],
		Rest:   r.rest,
		Ledger: l,
	}
	switch state := l.state(); state {
	case writing0, writing1:
		p.Note, p.Noted, p.Begun = l.head.notes[state-writing0], true, true
	case written0, written1:
		p.Note, p.Noted = l.head.notes[state-written0], true
	}
	return p, true
}

// markPlace makes the destination of a read differ from the data, to tell afterwards
// whether the read happened. Where the data were peeked at, that is certain. From
// markSize bytes on a secret random pattern is as good. A terminal can't be peeked at,
// but its header shows whether it was read.
//
// The first page and the end are marked: a read may return less than it asked for,
// since a pipe in packet mode returns a packet of at most a page. A container has to
// ask for that mode (O_DIRECT in pipe(2)), and may then find some bytes too many or
// too few in its log.
func (l *Flight) markPlace(peeked []byte) {
	place := l.place()
	if len(place) < markSize {
		n := copy(l.head.mark[:], peeked)
		for i := range n {
			l.head.mark[i] ^= 0xff
		}
		_, _ = rand.Read(l.head.mark[n:])
		copy(place, l.head.mark[:])
		return
	}
	n := copy(place, l.file.pattern())
	if n < len(place) {
		copy(place[max(n, len(place)-markSize):], l.file.pattern())
	}
}

// place is the destination of a read.
func (l *Flight) place() []byte {
	return l.Buffer()[l.head.op.carried:][:l.head.op.asked]
}

// arrived returns how many bytes were read.
func (l *Flight) arrived() int {
	place := l.place()
	if l.head.op.key.Terminal > 0 {
		switch {
		case l.head.header[0] != unix.TIOCPKT_DATA:
			return 0
		case len(place) < markSize:
			// They were available, and so few are read at once.
			return len(place)
		}
	}
	if len(place) < markSize {
		return lastDifference(place, l.head.mark[:])
	}
	pattern := l.file.pattern()
	start := min(len(place), pageSize)
	end := max(start, len(place)-markSize)
	if end < len(place) && !bytes.Equal(place[end:], pattern[:len(place)-end]) {
		return len(place)
	}
	n := lastDifference(place[:start], pattern)
	if n > 0 && len(place)-n <= alike {
		return len(place)
	}
	return n
}

// lastDifference returns the place after the last byte in which a differs from b, which
// is not shorter.
func lastDifference(a, b []byte) int {
	for i := len(a); i > 0; i-- {
		if a[i-1] != b[i-1] {
			return i
		}
	}
	return 0
}

// check returns what is wrong with a flight; empty if nothing is.
func (l *Flight) check(state uint32) string {
	r := &l.head.op
	switch {
	case state >= states:
		return "it has no state"
	case r.carried < 0 || r.carried > MaxCarry || r.asked < 0 || r.asked > MaxRead || r.read < 0 || r.read > MaxRead:
		return "it has too many bytes"
	case r.stream > crilog.Stderr || r.rest > crilog.Part:
		return "it says nonsense"
	}
	if state < writing0 {
		return ""
	}
	n := l.head.notes[(state-writing0)%2]
	if n.From < 0 || n.From > n.To || int64(n.To) > r.carried+r.read {
		return "its note is about other data"
	}
	return ""
}
