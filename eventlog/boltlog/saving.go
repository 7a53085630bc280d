package boltlog

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// saving is a change of a checkpoint in progress.
//
// A small one is part of an ordinary commit. Any other is written in pieces, each in a
// transaction of its own between commits: it fills an area that no reader looks at, then
// one commit changes the head, which makes the area visible, and then more pieces move the
// area's entries into the base (merge) and remove what is no longer visible (sweep). The
// next saving completes what a crash interrupted.
type saving struct {
	name    string
	delta   eventlog.Delta // without its pairs
	entries []entry        // by ascending key
	large   bool

	phase  phase
	filled head   // what the head will say; zero before an area is begun
	at     int    // entries written to the area
	merged []byte // the last key that was merged
	put    put    // the head that makes the change count
}

func newSaving(name string, d eventlog.Delta) *saving {
	s := &saving{name: name, delta: d, entries: make([]entry, 0, len(d.Put)+len(d.Delete))}
	for key, value := range d.Put {
		s.entries = append(s.entries, encodeEntry(name, key, entryValue, value))
	}
	for _, key := range d.Delete {
		s.entries = append(s.entries, encodeEntry(name, key, entryGone, nil))
	}
	slices.SortFunc(s.entries, func(a, b entry) int { return bytes.Compare([]byte(a.key), []byte(b.key)) })
	s.entries = slices.CompactFunc(s.entries, func(a, b entry) bool { return a.key == b.key }) // deleted twice
	s.delta.Put, s.delta.Delete = nil, nil
	s.large = d.Replace || len(s.entries) > pieceEntries || s.size() > pieceBytes
	return s
}

// size is in bytes.
func (s *saving) size() (n int) {
	for i := range s.entries {
		n += s.entries[i].size()
	}
	return n
}

// SaveCheckpoint implements eventlog.Log.
func (l *Log) SaveCheckpoint(ctx context.Context, name string, d eventlog.Delta) error {
	err := d.Check(name)
	if err == nil {
		err = l.change(ctx, newSaving(name, d))
	}
	if err != nil {
		return fmt.Errorf("save checkpoint %q: %w", name, err)
	}
	return nil
}

func (s *saving) check(last eventlog.Sequence) error {
	if sequence := s.delta.Sequence; sequence > last {
		return fmt.Errorf("%w: it is of record %d, but the last one is %d", eventlog.ErrInvalid, sequence, last)
	}
	return nil
}

// inPieces: small ones wait behind others, and until leftovers of an earlier daemon are swept.
func (s *saving) inPieces(p *pending) bool {
	return s.large || len(p.waiting) > 0 || !p.tidy[s.name]
}

func (s *saving) due() <-chan struct{} { return always }

func (s *saving) advance(p *pending, r *request) (more bool, err error) { return p.advance(s, r) }

func (s *saving) counts() bool { return s.phase > committing }
func (s *saving) proof() put   { return s.put }

func (s *saving) ended(p *pending, err error) { p.tidy[s.name] = err == nil }

func (s *saving) step() func(tx *bolt.Tx) (done bool, err error) {
	switch s.phase {
	case filling:
		return s.fill
	case committing:
		return nil
	default:
		return s.sweep
	}
}

func (s *saving) next() (more bool) {
	s.phase++
	if s.phase == filling && !s.large {
		s.phase++
	}
	return s.phase < tidy
}

// write puts the head into the file.
func (c *checkpoint) write() error {
	return c.bucket.Put(headKey(c.name), encodeHead(c.name, c.head))
}

// merge moves a piece of the overlay into the base; done when there is none.
func (s *saving) merge(c *checkpoint) (done bool, err error) {
	if c.overlay == 0 {
		return true, nil
	}
	size, n := 0, 0
	var puts []put
	for at := c.seek(c.overlay, s.merged); at.key != nil && size < pieceBytes && n < pieceEntries; at.next() {
		e, err := checkEntry(c.name, at.key, at.value)
		if err != nil {
			return false, c.damage(err)
		}
		p := put{bucketCheckpoints, append(c.base.prefix(c.name), at.key...), bytes.Clone(at.value)}
		if e.gone() {
			p.value = nil
		}
		puts, size, n = append(puts, p), size+e.size(), n+1
		s.merged = bytes.Clone(at.key)
	}
	if n == 0 {
		c.overlay, c.loose = 0, c.overlay
		return false, c.write()
	}
	for _, p := range puts {
		if p.value == nil {
			err = c.bucket.Delete(p.key)
		} else {
			err = c.bucket.Put(p.key, p.value)
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// sweep merges, and then removes a piece of what is not visible. It is done, and has
// changed nothing, when nothing is left; so are all steps.
func (s *saving) sweep(tx *bolt.Tx) (done bool, err error) {
	c, err := checkpointOf(tx, s.name)
	if s.phase == sweeping {
		if err != nil && s.delta.Replace {
			return true, nil // it will be swept when there is a head again
		}
		if err == nil {
			err = s.expected(&c)
		}
	}
	if err != nil {
		return false, err
	}
	if done, err := s.merge(&c); err != nil || !done {
		return false, err
	}
	keys := c.strays()
	for _, k := range keys {
		if err := c.bucket.Delete(k); err != nil {
			return false, err
		}
	}
	if len(keys) > 0 || c.loose == 0 {
		return len(keys) == 0, nil
	}
	c.loose = 0
	return false, c.write()
}

// strays returns keys of entries in areas that are not visible.
func (c *checkpoint) strays() (keys [][]byte) {
	cursor := c.bucket.Cursor()
	prefix := headKey(c.name)
	size := 0
	k, v := cursor.Seek(append(bytes.Clone(prefix), 0))
	for k != nil && bytes.HasPrefix(k, prefix) && len(keys) < pieceEntries && size < pieceBytes {
		_, a, _, ok := parseCheckpointKey(k)
		if ok && (a == c.base || a == c.overlay) {
			k, v = cursor.Seek((a + 1).prefix(c.name))
			continue
		}
		keys, size = append(keys, bytes.Clone(k)), size+len(k)+len(v)
		k, v = cursor.Next()
	}
	return keys
}

// fill writes a piece of the entries to a new area.
func (s *saving) fill(tx *bolt.Tx) (done bool, err error) {
	c, err := checkpointOf(tx, s.name)
	switch {
	case err != nil && !s.delta.Replace:
		return false, err
	case err != nil:
		c.head = head{}
	}
	if s.filled == (head{}) {
		if err := s.beginArea(&c); err != nil {
			return false, err
		}
	} else if s.at == len(s.entries) {
		return true, nil
	}
	for size, n := 0, 0; s.at < len(s.entries) && size < pieceBytes && n < pieceEntries; s.at, n = s.at+1, n+1 {
		e := s.entries[s.at]
		if s.filled.overlay == 0 { // there is nothing before
			if e.gone() {
				continue
			}
			s.filled.add(e.crc())
		} else if err := s.filled.replace(&c, e); err != nil {
			return false, err
		}
		if err := c.bucket.Put(append(s.area().prefix(s.name), e.key...), e.value); err != nil {
			return false, err
		}
		size += e.size()
	}
	return false, nil
}

// area is what the saving fills.
func (s *saving) area() area {
	if s.filled.overlay != 0 {
		return s.filled.overlay
	}
	return s.filled.base
}

// beginArea records in the head which area is being filled.
func (s *saving) beginArea(c *checkpoint) error {
	fresh := c.unused()
	s.filled = head{Checkpoint: s.delta.Checkpoint, tally: c.tally, base: c.base, overlay: fresh}
	if s.delta.Replace || !c.exists() {
		s.filled = head{Checkpoint: s.delta.Checkpoint, base: fresh, loose: c.base}
	}
	c.loose = fresh
	return c.write()
}

// unused returns an area that no key uses.
func (c *checkpoint) unused() area {
	for a := max(c.base, c.overlay, c.loose) + 1; ; a++ {
		prefix := a.prefix(c.name)
		if k, _ := c.bucket.Cursor().Seek(prefix); !bytes.HasPrefix(k, prefix) {
			return a
		}
	}
}

// replace counts an entry that replaces the checkpoint's own.
func (t *tally) replace(c *checkpoint, e entry) error {
	before, found, err := c.find(e.key)
	if err != nil {
		return err
	}
	if found {
		t.remove(before.crc())
	}
	if !e.gone() {
		t.add(e.crc())
	}
	return nil
}

// expected returns an ErrStale if the delta is for another state of the checkpoint.
func (s *saving) expected(c *checkpoint) error {
	if !s.delta.Replace && c.Sequence != s.delta.After {
		return fmt.Errorf("%w: it is of record %d, not of %d", eventlog.ErrStale, c.Sequence, s.delta.After)
	}
	return nil
}

// into makes the change visible: by a new head, and for a small one by its entries.
func (s *saving) into(tx *bolt.Tx) error {
	c, err := checkpointOf(tx, s.name)
	before := c.edition
	switch {
	case s.large:
		c.head = s.filled
	case err != nil:
		return err
	default:
		if err := s.expected(&c); err != nil {
			return err
		}
		if err := s.inPlace(&c); err != nil {
			return err
		}
		c.Checkpoint = s.delta.Checkpoint
	}
	c.edition = max(before+1, uint64(tx.ID())) // a compacted file counts transactions anew
	if err := c.write(); err != nil {
		return err
	}
	s.put = put{bucketCheckpoints, headKey(s.name), encodeHead(s.name, c.head)}
	return nil
}

// inPlace writes the entries to the base. There is no overlay.
func (s *saving) inPlace(c *checkpoint) error {
	if !c.exists() {
		c.base = c.unused()
	}
	for _, e := range s.entries {
		if err := c.tally.replace(c, e); err != nil {
			return err
		}
		key := append(c.base.prefix(c.name), e.key...)
		var err error
		if e.gone() {
			err = c.bucket.Delete(key)
		} else {
			err = c.bucket.Put(key, e.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
