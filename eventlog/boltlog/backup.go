package boltlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog"
)

// Backup implements eventlog.Reader. The copy is a bbolt file that needs no journal. While it
// is being made, the pages that it reads are not reused, so the log's file may grow.
func (r *Reader) Backup(ctx context.Context, path string) error {
	err := r.backup(ctx, path)
	if err != nil {
		return fmt.Errorf("back up event log %s to %s: %w", r.store.opener.path, path, err)
	}
	return nil
}

func (r *Reader) backup(ctx context.Context, path string) error {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return fs.ErrExist
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	unborn := path + ".new"
	f, err := os.OpenFile(unborn, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, fileMode)
	if err != nil {
		return err
	}
	recent := r.recent.all() // before the file: what is not there is here
	err = r.view(ctx, func(tx *bolt.Tx) error {
		_, err := tx.WriteTo(obedient{ctx, f})
		return err
	})
	if err = errors.Join(err, f.Close()); err == nil {
		err = complete(unborn, recent)
	}
	if err == nil {
		err = os.Link(unborn, path)
	}
	if err := errors.Join(err, os.Remove(unborn)); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// obedient is a writer that fails when its context ends.
type obedient struct {
	ctx context.Context
	to  io.Writer
}

func (o obedient) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		if err := o.ctx.Err(); err != nil {
			return n, err
		}
		wrote, err := o.to.Write(b[:min(len(b), readAhead)])
		if n += wrote; err != nil {
			return n, err
		}
		b = b[wrote:]
	}
	return n, nil
}

// complete adds the journal's records to a copy of the bbolt file, which then needs no journal.
func complete(path string, recent []eventlog.Record) error {
	db, err := bolt.Open(path, fileMode, &bolt.Options{FreelistType: bolt.FreelistMapType, NoFreelistSync: true})
	if err != nil {
		return err
	}
	err = guard(func() error {
		return db.Update(func(tx *bolt.Tx) error {
			k, _ := tx.Bucket(bucketRecords).Cursor().Last()
			last, _ := parseRecordKey(k)
			var more usage
			last = max(last, holesOf(tx).behind(last+1)-1)
			for _, r := range recent {
				if r.Sequence <= last {
					continue
				}
				value := appendRecord(nil, &r)
				if err := putRecord(tx, &r, value); err != nil {
					return err
				}
				more.bytes += int64(len(value))
			}
			if err := addUsage(tx, more); err != nil {
				return err
			}
			if err := tx.Bucket(bucketMeta).Delete(keyJournal); err != nil {
				return err
			}
			return sign(tx)
		})
	})
	return errors.Join(err, db.Close())
}
