package boltlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/internal/boltpages"
)

// repair is the writer's knowledge of its own trouble. While there is any,
// appends are refused at once, and every now and then the writer tries to get
// out of it: it writes something, and opens the file again before if need be.
type repair struct {
	health atomic.Pointer[error] // the trouble, for all goroutines; nil if there is none
	timer  *time.Timer           // runs while there is trouble
	pause  time.Duration         // until the next try

	// suspect: bbolt gave up in the middle of a commit, and what it has in memory may be
	// anything.
	suspect bool
}

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second

	// reopenTries is how often the file is opened again, firstPause apart,
	// before the waiting appends are told that their outcome is unknown.
	reopenTries = 3

	// probeSize is what must fit onto the disk for the trouble to be over. It
	// stays in the file as free pages, so that the appends that waited for
	// space don't fill the disk again at once.
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

// fail notes trouble and returns it as the error for who meets it.
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

// reopen opens the files again and goes on from what is in them. Records whose
// outcome was unknown become known here. The journal is not written until all is well:
// making it needs room on the disk, which the other file is to have first.
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

// intact says whether the bbolt file is as the last commit left it that did not fail.
// Until a transaction has written its meta page it has changed nothing that counts, so
// that there is nothing to find out, and what bbolt has in memory is right.
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

// tryRepair is well if a probe can be written. If the failure may have changed the files,
// it opens them again before that.
func (w *writer) tryRepair() {
	var f found
	var err error
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
		_ = w.fail(err) // nobody waits for an answer
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

// probe writes something, and deletes it: first beside the files, since a commit that
// fails makes bbolt walk its whole file.
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

func nothing(*bolt.Bucket) error { return nil }

// changeMeta changes the bucket of what there is to know of the log itself.
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
