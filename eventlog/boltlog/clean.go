package boltlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog/internal/boltpages"
)

// cleanMagic begins the mark that a log which is closed in order leaves in its journal, in
// place of the first frame. It is bound to the bbolt file's meta pages: any transaction
// after it makes it void, and so does everything that changes the file's size or its free
// list.
var cleanMagic = []byte("stele/c1")

// markOf returns the mark of a bbolt file as it is. There is none without a free list:
// bbolt would have to walk the whole file to make one.
func markOf(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	meta, other, err := boltpages.ReadMeta(f, info.Size())
	if err := errors.Join(err, other); err != nil {
		return nil, err
	}
	metas := make([]byte, 2*meta.PageSize)
	if _, err := f.ReadAt(metas, 0); err != nil {
		return nil, err
	}
	free, err := meta.Freelist(f, info.Size())
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint64(bytes.Clone(cleanMagic), uint64(info.Size()))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(metas, castagnoli))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(free, castagnoli))
	return appendCRC(b, 0), nil
}

// closedInOrder says whether a bbolt file is as it was left by a daemon that closed it in
// order: then all its pages are what they have to be, as far as the disk keeps what it was
// given.
func closedInOrder(f *os.File, journal string) bool {
	want, err := markOf(f)
	if err != nil {
		return false
	}
	j, err := os.OpenFile(journal, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer j.Close()
	got := make([]byte, len(want))
	_, err = j.ReadAt(got, 0)
	return err == nil && bytes.Equal(got, want)
}

// markClosed leaves the mark. The bbolt file is on the disk, and nobody will write it.
func markClosed(f *os.File, journal string) error {
	mark, err := markOf(f)
	if err != nil {
		return err
	}
	j, err := os.OpenFile(journal, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	_, err = j.WriteAt(append(mark, make([]byte, journalPage-len(mark))...), 0)
	if err == nil {
		err = syncFrames(j)
	}
	return errors.Join(err, j.Close())
}

// closeInOrder makes the next start a short one: it saves the free list and leaves the
// mark. Without, the next start reads the whole file, which is all that is lost.
func (w *writer) closeInOrder() {
	h := w.reader.store.current()
	if h == nil || w.failure() != nil || len(w.reader.recent.all()) > 0 {
		return
	}
	journal := journalPath(w.reader.store.opener.path)
	_, err := markOf(h.file)
	if errors.Is(err, boltpages.ErrNoFreelist) {
		err = w.changeMeta(nothing)
	}
	if err == nil {
		err = markClosed(h.file, journal)
	}
	if err != nil {
		w.log.Warn("event log: not closed in order, so that the next start takes longer", "cause", fmt.Errorf("mark %s: %w", journal, err))
	}
}
