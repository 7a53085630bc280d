package boltlog

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/internal/boltpages"
)

// closedLog makes a log that was closed cleanly, with free pages.
func closedLog(t testing.TB) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "events.db")
	l := open(t, Options{Path: path})
	for v := range eventlog.Version(5) {
		_, err := l.Append(t.Context(), eventlog.Append{Stream: "s", Expected: v, Entries: []eventlog.Entry{{Type: "t", Payload: make([]byte, 30_000)}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.SaveCheckpoint(t.Context(), "x", largeDelta(eventlog.Sequence(v+1), eventlog.Sequence(v), 300)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// walked opens a log, uses it, and reports whether opening read the whole file.
func walked(t testing.TB, path string) bool {
	t.Helper()
	l, err := Open(Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	read := l.store.current().inCache.Load()
	head := eventlog.Version(l.Last())
	for v := head; v < head+20; v++ {
		_, err := l.Append(t.Context(), eventlog.Append{Stream: "s", Expected: v, Entries: []eventlog.Entry{{Type: "t", Payload: make([]byte, 10_000)}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pairsOf(t, l, "x"); err != nil {
		t.Error(err)
	}
	checkWhole(t, l, int(head)+20)
	return read
}

// TestClosedInOrder: opening a file that was closed cleanly does not read all of it.
func TestClosedInOrder(t *testing.T) {
	path := closedLog(t)
	for range 4 {
		if walked(t, path) {
			t.Error("it was read whole")
		}
		r, err := OpenReadOnly(path) // changes nothing
		if err != nil {
			t.Fatal(err)
		}
		checkWhole(t, r, int(r.Last()))
		r.Close()
		l := open(t, Options{Path: path}) // nothing is appended
		l.Close()
	}
}

// TestNotClosedInOrder: a file that differs from what its last daemon left is read whole,
// and can be used then.
func TestNotClosedInOrder(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string) string{
		"killed": func(t *testing.T, path string) string {
			l := open(t, Options{Path: path})
			mustAppend(t, l, "s", 5)
			return takeImages(t, path).place(t)
		},
		"killed before its first commit": func(t *testing.T, path string) string {
			open(t, Options{Path: path})
			killed := filepath.Join(t.TempDir(), "events.db") // byte for byte: the mark knows the size
			for from, to := range map[string]string{path: killed, journalPath(path): journalPath(killed)} {
				if err := os.WriteFile(to, readFile(t, from), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			return killed
		},
		"without the journal": func(t *testing.T, path string) string {
			if err := os.Remove(journalPath(path)); err != nil {
				t.Fatal(err)
			}
			return path
		},
		"with an older journal": func(t *testing.T, path string) string {
			old := readFile(t, journalPath(path))
			l := open(t, Options{Path: path})
			mustAppend(t, l, "s", 5)
			l.Close()
			if err := os.WriteFile(journalPath(path), old, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		},
		"changed by another program": func(t *testing.T, path string) string {
			corrupt(t, path, bucketMeta, keyProbe, remove)
			return path
		},
		"with more bytes": func(t *testing.T, path string) string {
			if err := os.WriteFile(path, append(readFile(t, path), make([]byte, 4096)...), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := spoil(t, closedLog(t))
			if !walked(t, path) {
				t.Error("it was not read whole")
			}
			if walked(t, path) {
				t.Error("it was read whole again")
			}
		})
	}
}

// TestFreelistWhileOpen: a short list of free pages is in the file also while the log is open, a long
// one is not.
func TestFreelistWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	l := open(t, Options{Path: path})
	listed := func() error {
		t.Helper()
		f, size, meta := openPages(t, path)
		defer f.Close()
		_, err := meta.Freelist(f, size)
		return err
	}
	save := func(after eventlog.Sequence, bytes int) {
		t.Helper()
		mustAppend(t, l, "s", eventlog.Version(after))
		d := eventlog.Delta{Checkpoint: eventlog.Checkpoint{Sequence: after + 1}, Replace: true, Put: map[string][]byte{}}
		for i := 0; bytes > 0; i, bytes = i+1, bytes-1<<20 {
			d.Put[strconv.Itoa(i)] = make([]byte, min(bytes, 1<<20))
		}
		if err := l.SaveCheckpoint(t.Context(), "x", d); err != nil {
			t.Fatal(err)
		}
	}
	save(0, 100)
	if err := listed(); err != nil {
		t.Error(err)
	}
	save(1, 2*fewFree<<12)
	save(2, 100) // All of that is free now.
	save(3, 100)
	if err := listed(); !errors.Is(err, boltpages.ErrNoFreelist) {
		t.Errorf("a long list is written again and again: %v", err)
	}
}

// TestDamagedFreelist: a list that names pages in use would have them overwritten; only
// the mark has a checksum of it.
func TestDamagedFreelist(t *testing.T) {
	path := closedLog(t)
	b := readFile(t, path)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	meta, _, err := boltpages.ReadMeta(f, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	free, err := meta.Freelist(f, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var page uint64
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	_ = db.View(func(tx *bolt.Tx) error {
		page = uint64(tx.Bucket(bucketRecords).Root())
		return nil
	})
	db.Close()
	if len(free) < 32 || free[10] == 0 {
		t.Fatalf("there are no free pages: %x", free[:16])
	}
	at := int64(0)
	for at = int64(2 * meta.PageSize); at < int64(len(b)); at += int64(meta.PageSize) {
		if string(b[at:at+int64(len(free))]) == string(free) {
			break
		}
	}
	for i := range 8 { // the first free page is one that is in use
		free[16+i] = byte(page >> (8 * i))
	}
	if _, err := f.WriteAt(free, at); err != nil {
		t.Fatal(err)
	}
	for how, open := range openers(path) {
		if err := open(); err == nil {
			t.Errorf("%s: a list of free pages that has page %d is believed", how, page)
		}
	}
}
