package crilog

// Scratch is the buffer in which records are assembled. Files written by one goroutine
// can share it.
type Scratch struct {
	// head is what all records of the batch start with.
	head head
	out  []byte
	// from and to are where out's records begin and end in the batch's data. last: the
	// last record is what the batch's Rest asked for.
	from, to int
	last     bool
	// content is how many of out's bytes the container wrote.
	content int64
}

// NewScratch returns a Scratch that writes about 128 KiB at a time.
func NewScratch() *Scratch {
	return &Scratch{head: make(head, 0, maxHead), out: make([]byte, 0, 128<<10)}
}

// start is called with each batch.
func (s *Scratch) start(b *Batch, from int) {
	s.head = appendHead(s.head[:0], b.Time, b.Stream)
	s.begin(from)
}

func (s *Scratch) begin(from int) { *s = Scratch{head: s.head, out: s.out[:0], from: from, to: from} }

func (s *Scratch) add(r *record) {
	s.out = appendRecord(s.out, s.head, r)
	s.content += int64(len(r.content))
	s.to = r.to
}

// Append writes a batch. It returns what the batch's Rest keeps. It does not fail: what
// the disk refuses is counted (Lost), since the container must not wait for the disk.
func (f *File) Append(s *Scratch, b *Batch) (rest []byte) {
	return f.appendFrom(s, b, 0)
}

// appendFrom writes a batch's records from a place on.
func (f *File) appendFrom(s *Scratch, b *Batch, place int) (rest []byte) {
	s.start(b, place)
	r := record{to: place}
	for b.next(&r) {
		f.put(s, b, &r)
	}
	place = r.to
	if b.last(place, &r) {
		f.put(s, b, &r)
		s.last = true
	}
	f.flush(s, b)
	if b.Rest == Keep {
		rest = b.Data[place:]
	}
	return rest
}

// put makes room for a record and adds it.
func (f *File) put(s *Scratch, b *Batch, r *record) {
	size := maxHead + len(r.content)
	if len(s.out)+size > cap(s.out) {
		f.flush(s, b)
	}
	if f.max > 0 && f.size+int64(len(s.out)+size) > f.max {
		f.flush(s, b)
		if f.size > 0 {
			f.restart()
		}
	}
	s.add(r)
}

// flush writes the assembled records.
func (f *File) flush(s *Scratch, b *Batch) {
	if len(s.out) == 0 {
		return
	}
	if err := f.writeNoted(s, b); err != nil {
		f.lose(s.content, err)
	}
	if b.Ledger != nil {
		b.Ledger.Written()
	}
	s.begin(s.to)
}

func (f *File) writeNoted(s *Scratch, b *Batch) error {
	note, err := f.prepare()
	if err != nil {
		return err
	}
	if b.Ledger != nil {
		note.From, note.To, note.Length, note.Last = s.from, s.to, len(s.out), s.last
		b.Ledger.Writing(note)
	}
	return f.write(s.out)
}
