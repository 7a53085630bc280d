package boltlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/internal/boltpages"
)

// repair is the writer's state while the log cannot be written. Appends are refused at
// once, and from time to time the writer writes a probe, after reopening the file if
// the failure may have changed it.
type repair struct {
	health atomic.Pointer[error] // why the log cannot be written, for all goroutines; nil if it can
	timer  *time.Timer           // runs while the log cannot be written
	pause  time.Duration         // until the next try

	// suspect: bbolt panicked during a commit, so its state in memory is unknown.
	suspect bool
}

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second

	// reopenTries is how often the file is opened again, firstPause apart,
	// before the waiting appends fail with an unknown outcome.
	reopenTries = 3

	// probeSize is how much must fit onto the disk before appends are accepted
	// again. It stays in the file as free pages, so that the appends that waited
	// for space don't fill the disk again at once.
	probeSize = 256 << 10
)

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func (r *repair) failure() error {
	if failure := r.health.Load(); failure != nil {
		return *failure
	}
	return nil
}

// fail records a failure and returns it as an ErrUnavailable.
func (w *writer) fail(cause error) error {
	failure := fmt.Errorf("%w: %w", eventlog.ErrUnavailable, cause)
	if w.failure() == nil {
		w.log.Error("event log: appends are refused until it can be written again", "cause", cause)
		w.pause = firstPause
	}
	w.health.Store(&failure)
	w.timer.Reset(w.pause)
	w.pause = min(2*w.pause, maxPause)
	return failure
}

// settle finds out whether a batch is in the file although its commit failed:
// bbolt may have written all of it before, say, the last sync reported an I/O
// error. Only the disk knows, so the file is opened again and looked at.
func (w *writer) settle(b *batch, cause error) {
	cause = fmt.Errorf("commit: %w", cause)
	failure := w.fail(cause)
	if b.doubt == nil && w.intact() {
		b.fail(failure)
		return
	}
	_, err := w.reopen()
	for try := 1; err != nil && try < reopenTries; try++ {
		time.Sleep(firstPause)
		_, err = w.reopen()
	}
	durable := false
	if err == nil && !b.empty() {
		durable, err = w.has(b.proof())
	}
	switch {
	case err != nil:
		// Not ErrUnavailable, also not inside of err: that would say that
		// nothing was appended.
		b.fail(fmt.Errorf("%w: %w; and it could not be looked up: %w", eventlog.ErrOutcomeUnknown, cause, err))
	case !durable:
		b.fail(failure)
	}
}

// has looks for what a batch would have put into the files.
func (w *writer) has(p put) (found bool, err error) {
	if string(p.bucket) == string(bucketRecords) {
		for _, r := range w.reader.recent.all() {
			if string(recordKey(r.Sequence)) == string(p.key) {
				return bytes.Equal(appendRecord(nil, &r), p.value), nil
			}
		}
	}
	err = w.reader.store.view(context.Background(), false, func(tx *bolt.Tx) error {
		found = bytes.Equal(tx.Bucket(p.bucket).Get(p.key), p.value)
		return nil
	})
	return found, err
}

// reopen opens the files again and continues from what is in them. Records whose
// outcome was unknown become known here. The journal is not used until a probe was
// written: it needs space on the disk, which the bbolt file gets first.
func (w *writer) reopen() (found, error) {
	w.journal.giveUp(w.log)
	if err := w.reader.store.reopen(); err != nil {
		return found{}, err
	}
	f, err := w.reader.recall()
	if err != nil {
		return found{}, err
	}
	w.suspect = false
	w.next = w.reader.tail.Last() + 1
	w.journal.pass, w.journal.at = f.pass, f.next
	return f, nil
}

// intact reports whether the bbolt file is as the last successful commit left it. A
// transaction that has not written its meta page has changed nothing, so there is nothing
// to look up, and bbolt's state in memory is right.
func (w *writer) intact() bool {
	h := w.reader.store.current()
	if h == nil || w.suspect {
		return false
	}
	info, err := h.file.Stat()
	if err != nil {
		return false
	}
	meta, other, err := boltpages.ReadMeta(h.file, info.Size())
	return err == nil && other == nil && meta.TxID == h.txid
}

// tryRepair accepts appends again if a probe can be written. If the failure may have changed
// the files, it reopens them first.
func (w *writer) tryRepair() {
	var f found
	var err error
	if w.nameless {
		if err := w.syncDir(filepath.Dir(w.reader.store.opener.path)); err != nil {
			_ = w.fail(err) // no caller waits
			return
		}
		w.nameless = false
	}
	intact := w.intact()
	if !intact {
		f, err = w.reopen()
	}
	if err == nil {
		err = w.probe()
	}
	if err == nil && intact && w.journal.file == nil {
		f, err = w.reopen() // to use the journal again
	}
	if err != nil {
		_ = w.fail(err) // no caller waits
		return
	}
	if w.journal.file == nil {
		w.openJournal()
	}
	if f.ahead {
		w.empty()
		if len(w.reader.recent.all()) > 0 {
			return // it has failed again
		}
	}
	w.health.Store(nil)
	w.log.Info("event log: it can be written again")
}

// probe writes something and deletes it: first to a file of its own, since a failed commit
// makes bbolt walk its whole file.
func (w *writer) probe() error {
	if err := probeDisk(w.reader.store.opener.path + ".probe"); err != nil {
		return fmt.Errorf("write a probe: %w", err)
	}
	err := w.changeMeta(func(meta *bolt.Bucket) error { return meta.Put(keyProbe, make([]byte, probeSize)) })
	if err != nil {
		return fmt.Errorf("write a probe: %w", err)
	}
	if err := w.changeMeta(func(meta *bolt.Bucket) error { return meta.Delete(keyProbe) }); err != nil {
		return fmt.Errorf("delete the probe: %w", err)
	}
	return nil
}

// probeDisk writes a file to the disk, and removes it.
func probeDisk(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeSize))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), os.Remove(path))
}

// nothing is a change of the meta bucket that changes nothing: the commit is what counts.
func nothing(*bolt.Bucket) error { return nil }

// changeMeta changes the meta bucket in a transaction of its own.
func (w *writer) changeMeta(fn func(meta *bolt.Bucket) error) error {
	tx, err := w.begin()
	if err != nil {
		return err
	}
	err = guard(func() error { return fn(tx.Bucket(bucketMeta)) })
	if err == nil {
		err = w.commitTx(tx)
	}
	if err != nil {
		w.rollback(tx)
	}
	return err
}
