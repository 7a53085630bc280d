package crilog

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// ledger remembers the last note.
type ledger struct {
	note    Note
	written bool
}

func (l *ledger) Writing(n Note) { l.note, l.written = n, false }
func (l *ledger) Written()       { l.written = true }

// An interrupted write is completed in its file, wherever that is now.
func TestComplete(t *testing.T) {
	data := []byte("one\n" + strings.Repeat("x", MaxContent) + "yz")
	for _, test := range []struct {
		name string
		rest Rest
		// away is done to the log before.
		away func(path string) error
		// found is what Complete returns, and where the name of the file then.
		found bool
		where string
	}{
		{"at its path", Keep, func(string) error { return nil }, true, ""},
		{"renamed", Part, func(path string) error { return os.Rename(path, path+".1") }, true, ".1"},
		{"removed", Part, os.Remove, false, ""},
	} {
		for cut := range 3 {
			t.Run(fmt.Sprint(test.name, " ", cut), func(t *testing.T) {
				f, path := open(t, 0)
				s, l := NewScratch(), &ledger{}
				f.Append(s, &Batch{Time: noon, Data: []byte("before\n")})
				batch := &Batch{Time: noon, Data: data, Rest: test.rest, Ledger: l}
				f.Append(s, batch)
				want := content(t, path)
				f.Close()
				// Its inode must not be reused.
				old, err := os.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer old.Close()
				if err := os.Truncate(path, l.note.Size+int64(cut*l.note.Length/2)); err != nil {
					t.Fatal(err)
				}
				if err := test.away(path); err != nil {
					t.Fatal(err)
				}
				if err := f.Reopen(); err != nil {
					t.Fatal(err)
				}
				l.written = false
				found, err := f.Complete(s, batch, l.note)
				if err != nil || found != test.found || l.written != test.found {
					t.Fatalf("found %v, written %v, %v", found, l.written, err)
				}
				rest := f.Resume(s, batch, l.note, !found)
				if test.rest == Keep && string(rest) != "yz" || test.rest != Keep && len(rest) > 0 {
					t.Errorf("the rest is %q", rest)
				}
				if !found {
					// What was before is gone with the file.
					_, want, _ = strings.Cut(want, "\n")
				}
				if got := content(t, path+test.where); got != want {
					t.Errorf("the log has %.99q (%d bytes), want %.99q (%d)", got, len(got), want, len(want))
				}
			})
		}
	}
}

// A note about other records than those of the batch is not followed.
func TestCompleteOther(t *testing.T) {
	f, path := open(t, 0)
	l := &ledger{}
	batch := &Batch{Time: noon, Data: []byte("one\ntwo\n"), Ledger: l}
	f.Append(NewScratch(), batch)
	want := content(t, path)
	l.written = false
	l.note.Length++
	if _, err := f.Complete(NewScratch(), batch, l.note); err == nil || !l.written {
		t.Errorf("it was followed, %v", err)
	}
	if got := content(t, path); got != want {
		t.Errorf("the log has %q, want %q", got, want)
	}
}

// A killed process can leave an incomplete record, and no note of it.
func TestTornEnd(t *testing.T) {
	f, path := open(t, 0)
	if err := os.WriteFile(path, []byte("2026-01-02T10:00"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(); err != nil {
		t.Fatal(err)
	}
	f.Append(NewScratch(), &Batch{Time: noon, Data: []byte("whole\n")})
	if got, want := content(t, path), "2026-01-02T10:00\n"+noonText+" stdout F whole\n"; got != want {
		t.Errorf("the log has %q, want %q", got, want)
	}
}

// A removed log is made again, unless its directory is gone: then what is written is
// lost, and counted, until the directory is back.
func TestRemoved(t *testing.T) {
	f, path := open(t, 0)
	s := NewScratch()
	say := func(text string) { f.Append(s, &Batch{Time: noon, Data: []byte(text)}) }
	say("one\n")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	say("two\n")
	if got, want := content(t, path), noonText+" stdout F two\n"; got != want {
		t.Errorf("the log has %q, want %q", got, want)
	}
	dir := path[:strings.LastIndex(path, "/")]
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	say("three\n")
	lost, why := f.Lost()
	if lost != 5 || why == nil {
		t.Errorf("%d bytes are lost, %v", lost, why)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is back: %v", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	say("four\n")
	if got, want := content(t, path), noonText+" stdout F four\n"; got != want {
		t.Errorf("the log has %q, want %q", got, want)
	}
	if lost, _ := f.Lost(); lost != 5 {
		t.Errorf("%d bytes are lost", lost)
	}
}

// A full disk takes whole records or none, and the next ones when there is room.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path := dir + "/0.log"
	f, err := Open(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := NewScratch()
	line := append(bytes.Repeat([]byte("x"), 2999), '\n')
	for range 10 {
		f.Append(s, &Batch{Time: noon, Data: line})
	}
	kept := strings.Count(content(t, path), "\n")
	if lost, why := f.Lost(); kept == 0 || kept == 10 || lost != int64((10-kept)*2999) || why == nil {
		t.Errorf("%d records are there, %d bytes are lost, %v", kept, lost, why)
	}
	if got, want := content(t, path), strings.Repeat(noonText+" stdout F "+string(line), kept); got != want {
		t.Errorf("the log has %d bytes, want %d", len(got), len(want))
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path + ".1"); err != nil {
		t.Fatal(err)
	}
	f.Append(s, &Batch{Time: noon, Data: line})
	if got, want := content(t, path), noonText+" stdout F "+string(line); got != want {
		t.Errorf("the log has %d bytes, want %d", len(got), len(want))
	}
}
