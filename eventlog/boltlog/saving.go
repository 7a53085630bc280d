package boltlog

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// A piece is what one transaction changes of a checkpoint at most, so that an append
// that comes meanwhile waits no longer than for another commit. One value can be larger.
const (
	pieceEntries = 256
	pieceBytes   = 256 << 10
)

// saving is a change of a checkpoint on its way to the file.
//
// A small one is part of an ordinary commit. Any other is written in pieces, each in a
// transaction of its own between the commits: it fills an area that nobody reads yet,
// then one commit changes the head, which makes it count, and then the pieces that
// remain bring the area's entries to where they belong (merge) and remove what nobody
// reads any more (sweep). What a crash interrupts is merged or swept by the next saving.
type saving struct {
	name    string
	delta   eventlog.Delta // without its pairs
	entries []entry        // by ascending key
	large   bool

	phase  phase
	filled head   // what the head will say; zero before an area is begun
	at     int    // entries that are in the area
	merged []byte // the last key that was merged
	put    put    // the head that makes the change count
}

// phase is how far a saving has come that is written in pieces.
type phase int

const (
	sweeping   phase = iota // what an earlier one has left
	filling                 // an area of its own; only large ones
	committing              // the change
	tidying                 // what the change has left
	tidy
)

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
		_, err = l.ask(ctx, &request{saving: newSaving(name, d)})
	}
	if err != nil {
		return fmt.Errorf("save checkpoint %q: %w", name, err)
	}
	return nil
}

// savings are the changes of checkpoints that are written in pieces, one after the other.
type savings struct {
	waiting []*request
	tidy    map[string]bool // checkpoints that need no merging and no sweeping
	yielded bool            // the last thing that the writer did was a piece
}

// lineUp takes a saving that has to go in pieces. Small ones line up behind others, and
// if nobody knows what an earlier daemon has left. One that will be refused does not.
func (w *writer) lineUp(r *request) bool {
	s := r.saving
	if s == nil || s.delta.Sequence >= w.next || !s.large && len(w.savings.waiting) == 0 && w.savings.tidy[s.name] {
		return false
	}
	w.savings.waiting = append(w.savings.waiting, r)
	return true
}

// always is a channel from which one can always receive.
var always = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// pieces returns a channel from which one can receive when it is a piece's turn: never
// twice in a row while others wait.
func (w *writer) pieces() <-chan struct{} {
	if len(w.savings.waiting) == 0 || w.savings.yielded && len(w.queue.Ready()) > 0 {
		return nil
	}
	return always
}

// piece does the next piece of the oldest saving.
func (w *writer) piece() {
	w.savings.yielded = true
	r := w.savings.waiting[0]
	err := w.failure()
	if err == nil {
		err = w.advance(r)
	}
	if err != nil {
		w.endSaving(r, err)
	}
}

// advance does the next piece of a saving, and answers it when that was the last one.
func (w *writer) advance(r *request) error {
	s := r.saving
	done := true
	var err error
	switch s.phase {
	case sweeping, tidying:
		done, err = w.pieceOf(s.sweep)
	case filling:
		done, err = w.pieceOf(s.fill)
	case committing:
		w.write(&batch{requests: []*request{r}})
		err = r.err
	}
	if err != nil || !done {
		return err
	}
	s.phase++
	if s.phase == filling && !s.large {
		s.phase++
	}
	if s.phase == tidy {
		w.savings.tidy[s.name] = true
		w.endSaving(r, nil)
	}
	return nil
}

// pieceOf makes a change in a transaction of its own, unless there is nothing left to
// be done.
func (w *writer) pieceOf(fn func(tx *bolt.Tx) (done bool, err error)) (done bool, err error) {
	tx, err := w.begin()
	if err != nil {
		return false, w.fail(fmt.Errorf("begin: %w", err))
	}
	err = guard(func() (err error) {
		done, err = fn(tx)
		return err
	})
	if err != nil || done {
		w.rollback(tx)
		return done, err
	}
	if err := w.commitTx(tx); err != nil {
		w.rollback(tx)
		w.settle(&batch{}, err)
		return false, fmt.Errorf("%w: commit: %w", eventlog.ErrUnavailable, err)
	}
	return false, nil
}

// endSaving takes a saving out of the line and answers it. Once the change counts, nothing
// that comes afterwards is an error.
func (w *writer) endSaving(r *request, err error) {
	w.savings.waiting = slices.DeleteFunc(w.savings.waiting, func(other *request) bool { return other == r })
	if err != nil {
		delete(w.savings.tidy, r.saving.name)
	}
	if r.saving.phase > committing {
		err = nil
	}
	r.done(nil, err)
}

// endSavings refuses what has not been saved.
func (w *writer) endSavings() {
	for _, r := range slices.Clone(w.savings.waiting) {
		w.endSaving(r, eventlog.ErrClosed)
	}
}

// write puts the head into the file.
func (c *checkpoint) write() error {
	return c.bucket.Put(headKey(c.name), encodeHead(c.name, c.head))
}

// merge brings a piece of the overlay to the base; done when there is none.
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

// sweep merges, and then removes a piece of what does not count. When nothing was left
// it is done, and has changed nothing; so are all that are given to pieceOf.
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

// strays returns keys of entries that belong to no area that counts.
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

// fill puts a piece of the entries into an area of their own.
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

// beginArea notes in the head which area is being filled.
func (s *saving) beginArea(c *checkpoint) error {
	fresh := c.unused()
	s.filled = head{Checkpoint: s.delta.Checkpoint, tally: c.tally, base: c.base, overlay: fresh}
	if s.delta.Replace || !c.exists() {
		s.filled = head{Checkpoint: s.delta.Checkpoint, base: fresh, loose: c.base}
	}
	c.loose = fresh
	return c.write()
}

// unused returns an area that no key names.
func (c *checkpoint) unused() area {
	for a := max(c.base, c.overlay, c.loose) + 1; ; a++ {
		prefix := a.prefix(c.name)
		if k, _ := c.bucket.Cursor().Seek(prefix); !bytes.HasPrefix(k, prefix) {
			return a
		}
	}
}

// replace counts an entry that takes the place of what a checkpoint has.
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

// expected says whether the checkpoint is what the delta is for.
func (s *saving) expected(c *checkpoint) error {
	if !s.delta.Replace && c.Sequence != s.delta.After {
		return fmt.Errorf("%w: it is of record %d, not of %d", eventlog.ErrStale, c.Sequence, s.delta.After)
	}
	return nil
}

// into makes the change count: by a new head, or, for a small one, by new entries as well.
func (s *saving) into(tx *bolt.Tx) error {
	c, err := checkpointOf(tx, s.name)
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
	c.edition = uint64(tx.ID())
	if err := c.write(); err != nil {
		return err
	}
	s.put = put{bucketCheckpoints, headKey(s.name), encodeHead(s.name, c.head)}
	return nil
}

// inPlace puts the entries where they belong at once. There is no overlay.
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

func newSavings() savings { return savings{tidy: make(map[string]bool)} }
