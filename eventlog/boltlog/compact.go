package boltlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog"
)

// compaction copies what the log holds to a new file, which then takes the log's name.
//
// It is one of the changes that are made one after the other, so that nothing but appends
// changes the log meanwhile. A goroutine copies, in rounds: first everything, then what was
// appended during the round before. The writer does the last step: it adds the few records
// that are left, and renames.
type compaction struct {
	ctx     context.Context // the caller's
	cancel  context.CancelFunc
	from    *handle
	copy    copying
	round   int
	copied  chan struct{} // closed when the goroutine's round is over; nil before the first
	err     error         // of that round
	renamed bool
}

// copyPath is where the copy of a log grows.
func copyPath(path string) string { return path + ".compact" }

// removeCopy removes what an interrupted compaction has left.
func removeCopy(path string) error {
	if err := os.Remove(copyPath(path)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Limits of what the writer does in the last step, so that appends do not wait for it.
const (
	lastStepBytes = 256 << 10
	maxRounds     = 16 // then the last step is as large as it is
)

// compactionStep names the points that a compaction reaches, for tests.
type compactionStep string

const (
	stepRoom    compactionStep = "looked for room"
	stepCreated compactionStep = "created the copy"
	stepPiece   compactionStep = "copied a piece"
	stepSynced  compactionStep = "synced the copy"
	stepRound   compactionStep = "copied a round"
	stepLast    compactionStep = "begun the last step"
	stepFilled  compactionStep = "copied the last records"
	stepWhole   compactionStep = "made the copy a whole log"
	stepRename  compactionStep = "renamed the copy"
	stepNamed   compactionStep = "synced the name"
	stepSwapped compactionStep = "gone on with the copy"
)

// Compact implements eventlog.Log.
func (l *Log) Compact(ctx context.Context) error {
	c := &compaction{}
	c.ctx, c.cancel = context.WithCancel(ctx)
	defer c.cancel()
	if err := l.change(ctx, c); err != nil {
		return fmt.Errorf("compact event log %s: %w", l.store.opener.path, err)
	}
	return nil
}

func (c *compaction) size() int                     { return 0 }
func (c *compaction) check(eventlog.Sequence) error { return nil }
func (c *compaction) inPieces(*pending) bool        { return true }
func (c *compaction) counts() bool                  { return c.renamed }

// due: the goroutine's rounds are awaited, everything else is done at once.
func (c *compaction) due() <-chan struct{} {
	if c.copied == nil {
		return always
	}
	return c.copied
}

// advance begins a round, or does the last step.
func (c *compaction) advance(p *pending, _ *request) (more bool, err error) {
	w := p.writer
	switch {
	case c.copied == nil:
		c.from = w.reader.store.current()
		c.copy = copying{reader: w.reader, from: c.from, path: copyPath(w.reader.store.opener.path), reached: w.reached}
		c.begin(w, c.copy.everything)
		return true, nil
	case c.err != nil:
		return false, c.err
	case c.round < maxRounds && (w.inFile() > c.copy.last || w.reader.recent.size() > lastStepBytes):
		w.empty() // so that the next round has everything up to now
		c.begin(w, c.copy.catchUp)
		return true, nil
	}
	return false, c.last(w)
}

// inFile is the last record in the bbolt file.
func (w *writer) inFile() eventlog.Sequence {
	return w.next - 1 - eventlog.Sequence(len(w.reader.recent.all()))
}

// begin begins a round that copies what the file has now.
func (c *compaction) begin(w *writer, round func(ctx context.Context, through eventlog.Sequence) error) {
	c.round++
	copied, through := make(chan struct{}), w.inFile()
	c.copied = copied
	go func() {
		defer close(copied)
		if c.err = explain(round(c.ctx, through)); c.err == nil {
			c.err = w.reached(stepRound)
		}
	}()
}

// ended waits for the goroutine, and removes the copy unless it is the log now.
func (c *compaction) ended(p *pending, err error) {
	c.cancel()
	if c.copied == nil || c.renamed {
		return
	}
	<-c.copied
	if err := c.copy.discard(); err != nil {
		p.writer.log.Warn("event log: the copy of a compaction that failed stays", "cause", err)
	}
	if err != nil {
		p.writer.log.Warn("event log: not compacted", "cause", err)
	}
}

// last completes the copy and puts it in the log's place. Until the rename, an error leaves
// the log as it is.
//
// The copy has everything that the journal has, and another pass: from the rename on, the
// journal's frames count for nothing. But until the disk knows the new name, a power failure
// may bring back the old file, which needs them. So nothing is written to the journal before.
func (c *compaction) last(w *writer) error {
	if err := w.reached(stepLast); err != nil {
		return err
	}
	if w.reader.store.current() != c.from {
		return errReopened
	}
	var pass passID
	if w.journal.file != nil {
		pass = newPass()
	}
	if err := c.copy.complete(w, pass); err != nil {
		return explain(err)
	}
	h, err := c.copy.handle()
	if err != nil {
		return err
	}
	path := w.reader.store.opener.path
	if err := os.Rename(c.copy.path, path); err != nil {
		return err
	}
	c.renamed = true
	_ = w.reached(stepRename)
	err = w.syncDir(filepath.Dir(path))
	w.reader.store.replace(h, w.log)
	w.reader.recent.clear()
	if err != nil {
		w.nameless = true
		w.journal.giveUp(w.log)
		w.journal.begin(passID{}, w.next-1)
		_ = w.fail(fmt.Errorf("sync the name of the compacted file: %w", err)) // Health has it
		return nil
	}
	_ = w.reached(stepNamed)
	w.journal.begin(pass, w.next-1)
	_ = w.reached(stepSwapped)
	return nil
}

var errReopened = fmt.Errorf("%w: the file was opened again meanwhile", eventlog.ErrUnavailable)

// copying is a copy that grows.
type copying struct {
	reader  *Reader
	from    *handle
	path    string
	reached func(compactionStep) error

	db       *bolt.DB
	file     *os.File
	last     eventlog.Sequence // everything through this one was copied
	counted  usage
	unsynced int64 // bytes
}

// Sizes of the pieces of a copy, in bytes.
const (
	copyPiece = 256 << 10
	// copySync is how much the disk is given at a time: a sync of the journal waits behind it.
	copySync = 2 << 20
)

// copyFill is how full the copy's pages are, but for records (recordsFill).
const copyFill = 0.8

// everything copies everything through a record.
func (c *copying) everything(ctx context.Context, through eventlog.Sequence) error {
	if err := c.create(); err != nil {
		return err
	}
	if err := c.reached(stepCreated); err != nil {
		return err
	}
	c.counted.removed = make(eventlog.Rules)
	for _, name := range buckets {
		if err := c.bucket(ctx, name, through); err != nil {
			return fmt.Errorf("copy the %s: %w", name, err)
		}
	}
	c.last = through
	return c.sync()
}

// create makes an empty file, if there is room for the copy. The lock that comes with it is
// the log's from the rename on.
func (c *copying) create() error {
	var inUse int64
	err := c.view(context.Background(), func(tx *bolt.Tx) error {
		inUse = c.from.inUse(tx)
		return nil
	})
	if err == nil {
		err = c.room(inUse + eventlog.CompactRoom)
	}
	if err == nil {
		err = c.reached(stepRoom)
	}
	if err == nil {
		err = removeCopy(c.reader.store.opener.path)
	}
	if err != nil {
		return err
	}
	c.db, err = bolt.Open(c.path, fileMode, &bolt.Options{
		FreelistType:    bolt.FreelistMapType,
		NoFreelistSync:  true,
		NoGrowSync:      true,
		NoSync:          true,
		InitialMmapSize: mmapSize,
		OpenFile: func(path string, _ int, mode fs.FileMode) (f *os.File, err error) {
			c.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, mode)
			return c.file, err
		},
	})
	if err != nil {
		return err
	}
	return c.update(makeBuckets)
}

// room checks that the disk has so many bytes to spare.
func (c *copying) room(want int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(c.path), &s); err != nil {
		return fmt.Errorf("look for free space at %s: %w", filepath.Dir(c.path), err)
	}
	if free := int64(s.Bavail) * s.Bsize; free < want {
		return fmt.Errorf("%w: %d MiB are free at %s, want %d MiB", eventlog.ErrNoRoom, free>>20, filepath.Dir(c.path), (want+1<<20-1)>>20)
	}
	return nil
}

// explain says if an error is for want of room.
func explain(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", eventlog.ErrNoRoom, err)
	}
	return err
}

// view reads the file that is copied.
func (c *copying) view(ctx context.Context, fn func(*bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.reader.store.viewHandle(ctx, false, func(h *handle, tx *bolt.Tx) error {
		if h != c.from {
			return errReopened
		}
		return fn(tx)
	})
}

// update changes the copy.
func (c *copying) update(fn func(*bolt.Tx) error) error {
	return guard(func() error { return c.db.Update(fn) })
}

// pair is one that is copied.
type pair struct{ key, value []byte }

// copiedPiece is a piece of a bucket.
type copiedPiece struct {
	pairs []pair
	bytes int
	next  []byte // key to continue with; nil at the end
}

// bucket copies a bucket, with what belongs to records through one.
func (c *copying) bucket(ctx context.Context, name []byte, through eventlog.Sequence) error {
	for from := []byte{}; from != nil; {
		var p copiedPiece
		if err := c.view(ctx, func(tx *bolt.Tx) error { p = pieceOf(tx, name, from, through); return nil }); err != nil {
			return err
		}
		for _, pair := range p.pairs {
			c.count(name, pair)
		}
		err := c.update(func(tx *bolt.Tx) error {
			b := tx.Bucket(name)
			b.FillPercent = copyFill
			if string(name) == string(bucketRecords) {
				b.FillPercent = recordsFill
			}
			for _, pair := range p.pairs {
				if err := b.Put(pair.key, pair.value); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			err = c.wrote(p.bytes)
		}
		if err != nil {
			return err
		}
		from = p.next
	}
	return nil
}

// pieceOf reads a piece of a bucket from a key on.
func pieceOf(tx *bolt.Tx, name, from []byte, through eventlog.Sequence) (p copiedPiece) {
	cursor := tx.Bucket(name).Cursor()
	for k, v := cursor.Seek(from); k != nil; k, v = cursor.Next() {
		if p.bytes >= copyPiece {
			p.next = append([]byte{}, k...)
			break
		}
		if !copies(name, k, v, through) {
			continue
		}
		p.pairs = append(p.pairs, pair{append([]byte{}, k...), append([]byte{}, v...)})
		p.bytes += len(k) + len(v)
	}
	return p
}

// copies reports whether a pair is copied in the first round. What records and index say of
// later records comes with these, and of the meta bucket the rest is the copy's own.
func copies(bucket, k, v []byte, through eventlog.Sequence) bool {
	switch string(bucket) {
	case string(bucketRecords):
		s, ok := parseRecordKey(k)
		return !ok || s <= through
	case string(bucketIndex):
		s, ok := parseRecordKey(v)
		return !ok || s <= through
	case string(bucketMeta):
		switch string(k) {
		case string(keyFormat), string(keyLast), string(keyJournal), string(keyUsage), string(keyProbe):
			return false
		}
	}
	return true
}

// count counts what was copied, for the copy's counters.
func (c *copying) count(bucket []byte, p pair) {
	switch string(bucket) {
	case string(bucketRecords):
		c.counted.bytes += int64(len(p.value))
	case string(bucketHoles):
		if h, err := parseHole(p.key, p.value); err == nil {
			c.counted.removed = c.counted.removed.With(h.Rules)
		}
	}
}

// wrote syncs from time to time, so that no sync takes long.
func (c *copying) wrote(bytes int) error {
	if err := c.reached(stepPiece); err != nil {
		return err
	}
	if c.unsynced += int64(bytes); c.unsynced < copySync {
		return nil
	}
	if err := c.sync(); err != nil {
		return err
	}
	return c.room(eventlog.CompactRoom / 2)
}

func (c *copying) sync() error {
	if err := unix.Fdatasync(int(c.file.Fd())); err != nil {
		return fmt.Errorf("fdatasync: %w", err)
	}
	c.unsynced = 0
	return c.reached(stepSynced)
}

// catchUp copies the records that were appended during the round before.
func (c *copying) catchUp(ctx context.Context, through eventlog.Sequence) error {
	for c.last < through {
		var records []eventlog.Record
		err := c.view(ctx, func(tx *bolt.Tx) (err error) {
			records, err = recordsOf(tx, c.last+1, through)
			return err
		})
		if err == nil {
			err = c.put(records)
		}
		if err != nil {
			return err
		}
	}
	return c.sync()
}

// recordsOf reads some records, which are there. None was removed since they were appended.
func recordsOf(tx *bolt.Tx, from, through eventlog.Sequence) (records []eventlog.Record, err error) {
	var decoder recordDecoder
	bucket := tx.Bucket(bucketRecords)
	for s, bytes := from, 0; s <= through && bytes < copyPiece; s++ {
		v := bucket.Get(recordKey(s))
		r, err := decodeAt(&decoder, s, v)
		if err != nil {
			return nil, &eventlog.DamageError{Sequence: s, Problem: err.Error()}
		}
		records, bytes = append(records, r), bytes+len(v)
	}
	return records, nil
}

// put adds records at the end of the copy.
func (c *copying) put(records []eventlog.Record) error {
	bytes := 0
	err := c.update(func(tx *bolt.Tx) (err error) {
		bytes, err = putRecords(tx, records)
		return err
	})
	if err != nil || len(records) == 0 {
		return err
	}
	c.counted.bytes += int64(bytes)
	c.last = records[len(records)-1].Sequence
	return c.wrote(bytes)
}

// putRecords stores records, and returns how many bytes they have.
func putRecords(tx *bolt.Tx, records []eventlog.Record) (bytes int, err error) {
	for i := range records {
		value := appendRecord(make([]byte, 0, recordOverhead(&records[i])+len(records[i].Payload)), &records[i])
		if err := putRecord(tx, &records[i], value); err != nil {
			return 0, err
		}
		bytes += len(value)
	}
	return bytes, nil
}

// complete adds what is left, so that the copy is a whole log which is on the disk. The
// writer calls it.
func (c *copying) complete(w *writer, pass passID) error {
	if err := c.catchUp(context.Background(), w.inFile()); err != nil {
		return err
	}
	if err := c.put(w.reader.recent.all()); err != nil {
		return err
	}
	if err := c.reached(stepFilled); err != nil {
		return err
	}
	c.db.NoSync, c.db.NoGrowSync = false, false
	err := c.commit(func(tx *bolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		if pass != (passID{}) {
			if err := meta.Put(keyJournal, pass.value()); err != nil {
				return err
			}
		}
		return meta.Put(keyUsage, c.counted.value())
	})
	if err == nil {
		err = c.commit(func(*bolt.Tx) error { return nil }) // both meta pages must know the pass
	}
	if err == nil {
		err = c.extend()
	}
	if err == nil {
		err = c.file.Sync()
	}
	if err != nil {
		return err
	}
	return c.reached(stepWhole)
}

// extend makes the file as long as its meta pages say: the last pages may have been freed
// before they were ever written.
func (c *copying) extend() error {
	var size int64
	err := guard(func() error { return c.db.View(func(tx *bolt.Tx) error { size = tx.Size(); return nil }) })
	if err != nil {
		return err
	}
	info, err := c.file.Stat()
	if err != nil || info.Size() >= size {
		return err
	}
	return c.file.Truncate(size)
}

// commit changes the copy and signs it.
func (c *copying) commit(fn func(*bolt.Tx) error) error {
	return c.update(func(tx *bolt.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return sign(tx)
	})
}

// handle is the copy as the log's open file.
func (c *copying) handle() (*handle, error) {
	h := &handle{db: c.db, file: c.file}
	h.inCache.Store(true)
	return h, h.noteTx()
}

// discard removes the copy.
func (c *copying) discard() (err error) {
	if c.db != nil {
		err = guard(c.db.Close)
	}
	return errors.Join(err, removeCopy(c.reader.store.opener.path))
}
