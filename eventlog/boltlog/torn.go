package boltlog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/internal/boltpages"
)

// commitOnce commits a transaction with one sync instead of bbolt's two: data
// and meta page together, in whatever order the disk likes. What a power failure
// makes of that is told apart, and undone, by openWhole.
func commitOnce(tx *bolt.Tx) error {
	db := tx.DB()
	if err := sign(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if err := db.Sync(); err != nil {
		return fmt.Errorf("fdatasync: %w", err)
	}
	return nil
}

// sign puts into a transaction by what openWhole knows that it is all there.
func sign(tx *bolt.Tx) error {
	var last eventlog.Sequence
	if k, _ := tx.Bucket(bucketRecords).Cursor().Last(); k != nil {
		last, _ = parseRecordKey(k) // 0 for a damaged key, and then again
	}
	return tx.Bucket(bucketMeta).Put(keyLast, lastValue(tx, last))
}

// openWhole opens the file, as open does, and goes back by one transaction if
// the last one is torn: begun, but not synced when the machine stopped, so that
// some of its pages are on the disk and others are not. Nobody was told that
// such a transaction is durable, and the one before it is whole: its pages were
// synced before, and a transaction never writes onto pages of the one before it.
//
// A transaction can be torn only if the kernel's copy of the file is gone since:
// after a boot, or (lapsed) after a sync that failed. Then all of the content is
// checked, too, since a page that was not written may hold a sound page of
// earlier days. Damage that the transaction before has as well is none that a power
// failure makes, and stays what it is.
func (o *opener) openWhole(lapsed bool) (*handle, error) {
	h, err := o.open()
	if o.readOnly || err != nil && !errors.Is(err, eventlog.ErrCorrupt) {
		return h, err
	}
	if err == nil && !lapsed && h.lastBoot() == o.bootID {
		return h, nil
	}
	damage := h.damage()
	if damage == 0 {
		return h, nil
	}
	if err := h.close(); err != nil {
		return nil, fmt.Errorf("open event log %s: %w", o.path, err)
	}
	last, asideErr := o.setAside()
	if asideErr != nil {
		o.log.Debug("event log: there is no transaction to go back to", "path", o.path, "cause", asideErr)
		return o.open()
	}
	h, err = o.open()
	if err == nil && h.damage() < damage && (lapsed || h.lastBoot() != o.bootID) {
		o.log.Warn("event log: the last transaction was not wholly on the disk when the machine stopped; it is undone",
			"path", o.path, "transaction", last.txid)
		return h, nil
	}
	if err := errors.Join(h.close(), o.putBack(last)); err != nil {
		return nil, fmt.Errorf("open event log %s: %w", o.path, err)
	}
	return o.open()
}

// damage counts what is damaged in the file's content; more than can be counted
// when it could not even be opened.
func (h *handle) damage() uint64 {
	if h == nil {
		return math.MaxUint64
	}
	v := &verifier{ctx: context.Background()}
	if err := guard(func() error { return h.db.View(v.content) }); err != nil {
		return math.MaxUint64
	}
	return v.report.Damaged
}

func (h *handle) close() error {
	if h == nil {
		return nil
	}
	return guard(h.db.Close)
}

// lastBoot is the boot in which the last record was written; empty if there is
// none that can be read.
func (h *handle) lastBoot() (boot string) {
	_ = guard(func() error {
		return h.db.View(func(tx *bolt.Tx) error {
			_, value := tx.Bucket(bucketRecords).Cursor().Last()
			var decoder recordDecoder
			if record, err := decoder.decode(value); err == nil {
				boot = record.BootID
			}
			return nil
		})
	})
	return boot
}

// metaPage is the page that makes a transaction the last one.
type metaPage struct {
	txid  uint64
	at    int64
	bytes []byte
}

// setAside removes the meta page of the last transaction, so that the one before
// it is the last.
func (o *opener) setAside() (*metaPage, error) {
	var torn *metaPage
	err := o.change(func(f *os.File, newest boltpages.Meta, size int64) error {
		if _, err := boltpages.ReadMetaOf(f, size, newest.TxID-1); err != nil {
			return err
		}
		torn = &metaPage{txid: newest.TxID, at: int64(newest.TxID%2) * int64(newest.PageSize), bytes: make([]byte, newest.PageSize)}
		if _, err := f.ReadAt(torn.bytes, torn.at); err != nil {
			return err
		}
		_, err := f.WriteAt(make([]byte, newest.PageSize), torn.at)
		return err
	})
	return torn, err
}

// putBack undoes setAside, unless somebody has written to the file since.
func (o *opener) putBack(torn *metaPage) error {
	return o.change(func(f *os.File, newest boltpages.Meta, _ int64) error {
		if newest.TxID != torn.txid-1 {
			return fmt.Errorf("it has transaction %d now, where %d was expected", newest.TxID, torn.txid-1)
		}
		_, err := f.WriteAt(torn.bytes, torn.at)
		return err
	})
}

// change calls fn with the locked file and syncs what it wrote.
func (o *opener) change(fn func(f *os.File, newest boltpages.Meta, size int64) error) error {
	f, err := os.OpenFile(o.path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := o.lock(f, unix.LOCK_EX); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	newest, _, err := boltpages.ReadMeta(f, info.Size())
	if err != nil {
		return err
	}
	if err := fn(f, newest, info.Size()); err != nil {
		return err
	}
	return f.Sync()
}
