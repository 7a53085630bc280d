package crilog

// Scratch is the space in which records are put together. All files that are
// written by one goroutine can share one.
type Scratch struct {
	head [maxHead]byte
	out  []byte
	// from and to are the place of out's records in the batch's data, last says
	// that the last of them is what the batch's Rest asked for.
	from, to int
	last     bool
	// content is how many of out's bytes the container wrote.
	content int64
}

// NewScratch returns a Scratch that writes about 128 KiB at a time.
func NewScratch() *Scratch { return &Scratch{out: make([]byte, 0, 128<<10)} }

func (s *Scratch) begin(from int) { *s = Scratch{head: s.head, out: s.out[:0], from: from, to: from} }

// record adds a record, whose content ends before to.
func (s *Scratch) record(h head, content []byte, full bool, to int) {
	s.out = appendRecord(s.out, h, content, full)
	s.content += int64(len(content))
	s.to = to
}

// Append writes a batch. It returns what the batch's Rest keeps, and whether the
// stream's last record is a piece of a line now. It doesn't fail: what the disk
// refuses is counted (Lost), since the container must not wait for it.
func (f *File) Append(s *Scratch, b *Batch) (rest []byte, open bool) {
	return f.appendFrom(s, b, 0)
}

// appendFrom writes the records of a batch that begin at a place or later.
func (f *File) appendFrom(s *Scratch, b *Batch, place int) (rest []byte, open bool) {
	h := appendHead(s.head[:0], b.Time, b.Stream)
	s.begin(place)
	for {
		content, size, full, ok := cut(b.Data[place:])
		if !ok {
			break
		}
		place += size
		f.put(s, b, h, content, full, place)
	}
	if content, full, ok := b.last(place); ok {
		f.put(s, b, h, content, full, len(b.Data))
		s.last = true
	}
	f.flush(s, b)
	if b.Rest == Keep {
		rest = b.Data[place:]
	}
	return rest, b.openAfter(place)
}

func (f *File) put(s *Scratch, b *Batch, h head, content []byte, full bool, to int) {
	record := maxHead + len(content)
	if len(s.out)+record > cap(s.out) {
		f.flush(s, b)
	}
	if f.max > 0 && f.size+int64(len(s.out)+record) > f.max {
		f.flush(s, b)
		if f.size > 0 {
			f.restart()
		}
	}
	s.record(h, content, full, to)
}

// flush writes what was put together.
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
