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

// cleanMagic begins the mark that a clean close leaves in the journal, in place of the first
// frame. It is bound to the bbolt file's meta pages, size and free list: any later
// transaction invalidates it. A daemon that opens the log removes it.
var cleanMagic = []byte("stele/c1")

// markOf returns the mark for a bbolt file. A file without a free list has none: bbolt would
// have to walk the whole file to rebuild it.
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

// closedInOrder reports whether a bbolt file is unchanged since it was closed cleanly. Then
// its pages are sound, as far as the disk keeps what was written.
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

// markClosed writes the mark. The bbolt file is synced and will not be written again.
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

// forgetClosed removes the mark from a journal that is open for writing: if the daemon dies
// before its first commit, perhaps of what it has read, the next one reads the whole file. It
// is not synced, since a power failure is no reason to.
func forgetClosed(journal *os.File) error {
	magic := make([]byte, len(cleanMagic))
	if _, err := journal.ReadAt(magic, 0); err != nil || !bytes.Equal(magic, cleanMagic) {
		return err
	}
	_, err := journal.WriteAt(make([]byte, journalPage), 0)
	return err
}

// closeInOrder makes the next start short: it saves the free list and writes the mark. If
// that fails, the next start reads the whole file; nothing else is lost.
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
		w.log.Warn("event log: not closed cleanly, so the next start takes longer", "cause", fmt.Errorf("mark %s: %w", journal, err))
	}
}
