package boltlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/internal/boltpages"
)

const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600

	// mmapSize is how much address space the file gets at first; it costs nothing. Growing
	// beyond it makes the writer wait for all readers, also for a backup, once per GiB.
	mmapSize = 4 << 30

	// lockPoll is how often a lock is tried that another process holds.
	lockPoll = 20 * time.Millisecond

	// readAhead is the size of sequential reads.
	readAhead = 1 << 20
)

// opener opens the log's file: everything that must be true before bbolt may
// see it, and bbolt's options.
type opener struct {
	path     string
	readOnly bool
	lockWait time.Duration
	log      *slog.Logger
}

// handle is an open file. bbolt closes it, unless bbolt itself is stuck.
type handle struct {
	db   *bolt.DB
	file *os.File
	txid uint64 // of the last transaction that did not fail; the writer's

	inCache atomic.Bool // the file was read, in disk order
	walked  int64       // bytes that hold something, if the file was walked

	// inside counts those that read the file. If it was replaced, left is closed when none
	// is left. The store's lock guards both.
	inside int
	left   chan struct{}

	// readers is held while a read transaction begins; stuck: one panicked then, and bbolt
	// keeps its lock.
	readers sync.Mutex
	stuck   atomic.Bool
}

// open locks, checks and opens the file, which must be there.
func (o *opener) open() (*handle, error) {
	h := &handle{}
	options := &bolt.Options{
		ReadOnly:        o.readOnly,
		FreelistType:    bolt.FreelistMapType,
		NoFreelistSync:  true,
		InitialMmapSize: mmapSize,
		OpenFile: func(path string, flag int, _ fs.FileMode) (f *os.File, err error) {
			h.file, h.walked, err = o.prepare(path, flag&^os.O_CREATE)
			h.inCache.Store(h.walked > 0)
			return h.file, err
		},
	}
	err := guard(func() (err error) {
		h.db, err = bolt.Open(o.path, fileMode, options)
		return err
	})
	if err != nil {
		if h.file != nil {
			h.file.Close() // already closed, unless bbolt panicked
		}
		return nil, fmt.Errorf("open event log %s: %w", o.path, err)
	}
	if err := errors.Join(h.checkFormat(), h.noteTx(), h.countFree()); err != nil {
		return nil, errors.Join(fmt.Errorf("open event log %s: %w", o.path, err), h.db.Close())
	}
	return h, nil
}

// prepare opens, locks and checks the file. If a compaction has put another in its place
// while it waited for the lock, it takes that.
func (o *opener) prepare(path string, flag int) (f *os.File, walked int64, err error) {
	for {
		f, err = os.OpenFile(path, flag|unix.O_NOFOLLOW, 0)
		if err != nil {
			return nil, 0, err
		}
		walked, err = o.prepareFile(f)
		if err == nil {
			return f, walked, nil
		}
		f.Close()
		if !errors.Is(err, errReplaced) {
			return nil, 0, err
		}
	}
}

var errReplaced = errors.New("another file has taken its place")

// sameFile checks that a path still leads to a file.
func sameFile(path string, info fs.FileInfo) error {
	now, err := os.Lstat(path)
	if err == nil && !os.SameFile(now, info) {
		err = errReplaced
	}
	return err
}

func (o *opener) prepareFile(f *os.File) (walked int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%w: it is not a file but %v", eventlog.ErrCorrupt, info.Mode().Type())
	}
	if !o.readOnly && info.Mode().Perm() != fileMode {
		// It contains what users put into environments.
		if err := f.Chmod(fileMode); err != nil {
			return 0, err
		}
	}
	// bbolt asks for this lock again, and gets it at once because it belongs
	// to the open file. It is taken here because the file must not change
	// between the check and bbolt's opening.
	how := unix.LOCK_EX
	if o.readOnly {
		how = unix.LOCK_SH
	}
	if err := o.lock(f, how); err != nil {
		return 0, err
	}
	if err := sameFile(o.path, info); err != nil {
		return 0, err
	}
	return o.checkFile(f)
}

// lock takes a lock that lasts until the file is closed, and waits for it for up
// to lockWait.
func (o *opener) lock(f *os.File, how int) error {
	deadline := time.Now().Add(o.lockWait)
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("lock: %w", err)
		case time.Now().After(deadline):
			return fmt.Errorf("%w: another daemon runs on this directory, or a tool is reading the file (waited %v for its lock)",
				eventlog.ErrLocked, o.lockWait)
		}
		time.Sleep(lockPoll)
	}
}

// checkFile checks the file's structure, unless it was closed cleanly. It reads the whole
// file into the page cache in disk order first (page faults in bbolt's map, which is advised
// as random, take twenty times longer).
func (o *opener) checkFile(f *os.File) (walked int64, err error) {
	info, err := f.Stat() // again: its owner may have written until now
	if err != nil {
		return 0, err
	}
	if info.Size() == 0 {
		return 0, fmt.Errorf("%w: the file is empty; a log never is, not even a new one", eventlog.ErrCorrupt)
	}
	meta, other, err := boltpages.ReadMeta(f, info.Size())
	if err != nil {
		return 0, fmt.Errorf("%w: %w", eventlog.ErrCorrupt, err)
	}
	if other != nil {
		o.log.Warn("event log: one of two meta pages is damaged; if it was the newer one, the last transaction is lost",
			"path", o.path, "cause", other)
	}
	if !o.readOnly && closedInOrder(f, journalPath(o.path)) {
		return 0, nil
	}
	inUse := min(info.Size(), int64(meta.Pages)*int64(meta.PageSize))
	if err := readThrough(context.Background(), f, inUse); err != nil {
		return 0, err
	}
	pages, faults := boltpages.Check(f, info.Size(), meta)
	if len(faults) > 0 {
		return 0, &structureError{faults}
	}
	return int64(pages) * int64(meta.PageSize), nil
}

// readThrough reads size bytes from the start, in order, but for what seems to be in the page
// cache. It ignores read errors: the check finds out which page they belong to.
func readThrough(ctx context.Context, f *os.File, size int64) error {
	if err := unix.Fadvise(int(f.Fd()), 0, size, unix.FADV_SEQUENTIAL); err != nil {
		return fmt.Errorf("fadvise: %w", err)
	}
	buf := make([]byte, min(readAhead, size))
	for at := int64(0); at < size; at += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if cached(f, at, min(int64(len(buf)), size-at)) {
			continue
		}
		if _, err := f.ReadAt(buf, at); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.EIO) {
			return err
		}
	}
	return nil
}

// cacheSample is how far apart are the bytes of which cached asks.
const cacheSample = 256 << 10

// cached reports whether a part of a file seems to be in the page cache. A copy of all of it would
// take a hundred times longer.
func cached(f *os.File, at, size int64) bool {
	one := [][]byte{make([]byte, 1)}
	for end := at + size; at < end; at += cacheSample {
		if n, err := unix.Preadv2(int(f.Fd()), one, at, unix.RWF_NOWAIT); n != 1 || err != nil {
			return false
		}
	}
	return true
}

// checkFormat checks that the file is a log of this layout or of an older one, which is
// converted if it may be written.
func (h *handle) checkFormat() error {
	var format int
	err := guard(func() error {
		return h.db.View(func(tx *bolt.Tx) (err error) {
			format, err = formatOf(tx)
			return err
		})
	})
	if err != nil || format == presentFormat || h.db.IsReadOnly() {
		return err
	}
	return guard(func() error {
		return h.db.Update(func(tx *bolt.Tx) error { return upgrade(tx, format) })
	})
}

// formatOf returns the format of a log whose buckets are there.
func formatOf(tx *bolt.Tx) (format int, err error) {
	for _, name := range buckets[:formats[1]] {
		if tx.Bucket(name) == nil {
			return 0, fmt.Errorf("%w: it is a bbolt file without the bucket %q", eventlog.ErrCorrupt, name)
		}
	}
	value := string(tx.Bucket(bucketMeta).Get(keyFormat))
	_, err = fmt.Sscanf(value, formatName+"%d", &format)
	if err != nil || format < 1 || value != string(formatValue(format)) {
		return 0, fmt.Errorf("%w: its format is %q, want %q", eventlog.ErrCorrupt, value, formatValue(presentFormat))
	}
	if format > presentFormat {
		return 0, fmt.Errorf("%w: its format is %q, and this version knows those up to %d", eventlog.ErrNewer, value, presentFormat)
	}
	for _, name := range buckets[:formats[format]] {
		if tx.Bucket(name) == nil {
			return 0, fmt.Errorf("%w: it is a bbolt file without the bucket %q", eventlog.ErrCorrupt, name)
		}
	}
	return format, nil
}

// countFree has bbolt count its free pages, which it otherwise does in its first transaction.
func (h *handle) countFree() error {
	if h.db.IsReadOnly() {
		return nil
	}
	return guard(func() error {
		tx, err := h.db.Begin(true)
		if err != nil {
			return err
		}
		return tx.Rollback()
	})
}

// noteTx records the last transaction.
func (h *handle) noteTx() error {
	return guard(func() error {
		return h.db.View(func(tx *bolt.Tx) error {
			h.txid = uint64(tx.ID())
			return nil
		})
	})
}

// upgrade converts a log of an older format.
func upgrade(tx *bolt.Tx, from int) error {
	if err := tx.DeleteBucket(bucketSnapshots); err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) {
		return err
	}
	for _, name := range buckets[formats[from]:] {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	counted, err := countUsage(tx)
	if err != nil {
		return err
	}
	meta := tx.Bucket(bucketMeta)
	if err := meta.Put(keyUsage, counted.value()); err != nil {
		return err
	}
	if err := meta.Put(keyFormat, formatValue(presentFormat)); err != nil {
		return err
	}
	return sign(tx)
}

// create makes a new log, unless there is a file. The file gets its name when it
// is complete, so that a crash leaves a log or no log, and an empty file is always
// damage. Daemons that start at the same time take turns.
func (o *opener) create() error {
	if _, err := os.Lstat(o.path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := o.createInTurn(); err != nil {
		return fmt.Errorf("create event log %s: %w", o.path, err)
	}
	return nil
}

func (o *opener) createInTurn() error {
	// The mode of an existing directory is its owner's choice: the file itself is
	// private in any case.
	if err := os.MkdirAll(filepath.Dir(o.path), dirMode); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(o.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := o.lock(dir, unix.LOCK_EX); err != nil {
		return err
	}
	if _, err := os.Lstat(o.path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err // another daemon was first
	}
	unborn := o.path + ".new"
	if err := os.Remove(unborn); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // what a crash left; it was never a log
	}
	if err := build(unborn); err != nil {
		return err
	}
	if err := os.Link(unborn, o.path); err != nil {
		return err
	}
	if err := os.Remove(unborn); err != nil {
		return err
	}
	return dir.Sync()
}

// build writes an empty log to a file that is not there yet.
func build(path string) error {
	db, err := bolt.Open(path, fileMode, &bolt.Options{FreelistType: bolt.FreelistMapType, NoFreelistSync: true})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		if err := makeBuckets(tx); err != nil {
			return err
		}
		if err := tx.Bucket(bucketMeta).Put(keyUsage, usage{}.value()); err != nil {
			return err
		}
		return sign(tx)
	})
	return errors.Join(err, db.Close())
}

// makeBuckets makes the buckets of a new file, and says which format it has.
func makeBuckets(tx *bolt.Tx) error {
	for _, name := range buckets {
		if _, err := tx.CreateBucket(name); err != nil {
			return fmt.Errorf("bucket %q: %w", name, err)
		}
	}
	return tx.Bucket(bucketMeta).Put(keyFormat, formatValue(presentFormat))
}

// forgetCache makes the kernel drop its copy of the file, so that the next reads
// come from the disk. After a failed fsync Linux keeps the pages that it could
// not write and marks them clean: they would look durable and are not.
func forgetCache(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return fmt.Errorf("fdatasync: %w", err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("fadvise: %w", err)
	}
	return nil
}
