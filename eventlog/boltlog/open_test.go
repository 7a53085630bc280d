package boltlog

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// TestPrivate: only root reads what users put into environments.
func TestPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "events.db")
	l := open(t, Options{Path: path})
	mode := func(path string) fs.FileMode {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	if got := mode(filepath.Dir(path)); got != 0o700 {
		t.Errorf("the directory's mode is %o", got)
	}
	if got := mode(path); got != 0o600 {
		t.Errorf("the file's mode is %o", got)
	}
	l.Close()
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Path: path})
	if got := mode(path); got != 0o600 {
		t.Errorf("an existing file's mode is %o", got)
	}
	if got := mode(journalPath(path)); got != 0o600 {
		t.Errorf("the journal's mode is %o", got)
	}
	if names, _ := filepath.Glob(filepath.Dir(path) + "/*"); len(names) != 2 {
		t.Errorf("there are other files: %v", names)
	}
}

// TestLocked: a log has one daemon. Tools wait for it, but not for long.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	l := open(t, Options{Path: path})
	mustAppend(t, l, "s", 0)
	_, err := Open(Options{Path: path, LockWait: 50 * time.Millisecond})
	if !errors.Is(err, eventlog.ErrLocked) || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("a second daemon: %v", err)
	}
	if _, err := OpenReadOnly(path); !errors.Is(err, eventlog.ErrLocked) {
		t.Errorf("a tool while the daemon runs: %v", err)
	}
	// One that waits gets the log when the first one lets go.
	opened := make(chan *Log)
	go func() {
		second, err := Open(Options{Path: path, LockWait: time.Minute})
		if err != nil {
			t.Error(err)
		}
		opened <- second
	}()
	mustAppend(t, l, "s", 1)
	l.Close()
	if second := <-opened; second != nil {
		mustAppend(t, second, "s", 2)
		checkWhole(t, second, 3)
		second.Close()
	}
}

// TestReadersShare: several tools may read at once, and a daemon waits for them.
func TestReadersShare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	l := open(t, Options{Path: path})
	mustAppend(t, l, "s", 0)
	l.Close()
	var readers []*Reader
	for range 2 {
		r, err := OpenReadOnly(path)
		if err != nil {
			t.Fatal(err)
		}
		checkWhole(t, r, 1)
		readers = append(readers, r)
	}
	if _, err := Open(Options{Path: path, LockWait: 50 * time.Millisecond}); !errors.Is(err, eventlog.ErrLocked) {
		t.Errorf("a daemon while tools read: %v", err)
	}
	for _, r := range readers {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	mustAppend(t, open(t, Options{Path: path}), "s", 1)
}

func TestReadOnlyNeedsALog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "events.db")
	if _, err := OpenReadOnly(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it made the directory (%v)", err)
	}
}

// TestCreateTogether: daemons that start at the same time don't overwrite each
// other's new log.
func TestCreateTogether(t *testing.T) {
	for range 10 {
		path := filepath.Join(t.TempDir(), "events.db")
		var all sync.WaitGroup
		for w := range eventlog.Version(4) {
			all.Go(func() {
				l, err := Open(Options{Path: path, LockWait: time.Minute})
				if err != nil {
					t.Error(err)
					return
				}
				defer l.Close()
				if _, err := appendTo(l, "s", eventlog.Version(l.Last())); err != nil {
					t.Errorf("daemon %d: %v", w, err)
				}
			})
		}
		all.Wait()
		checkWhole(t, open(t, Options{Path: path}), 4)
	}
}

// TestCreateAfterACrash: leftovers of a creation that crashed do no harm.
func TestCreateAfterACrash(t *testing.T) {
	o := makeOriginal(t)
	for name, left := range map[string][]byte{
		"nothing":     {},
		"rubbish":     []byte("rubbish"),
		"zeros":       make([]byte, 16384),
		"half a log":  o.bytes[:4096],
		"a whole one": emptyLog(t),
	} {
		path := filepath.Join(t.TempDir(), "events.db")
		if err := os.WriteFile(path+".new", left, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(Options{Path: path})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		mustAppend(t, l, "s", 0)
		checkWhole(t, l, 1)
		l.Close()
		if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: it is still there (%v)", name, err)
		}
	}
}

func emptyLog(t *testing.T) []byte {
	path := filepath.Join(t.TempDir(), "events.db")
	open(t, Options{Path: path}).Close()
	return readFile(t, path)
}

// TestBatchesShareATransaction: that is what group commit is for.
func TestBatchesShareATransaction(t *testing.T) {
	l := open(t, Options{Path: filepath.Join(t.TempDir(), "events.db")})
	waits, go_ := make(chan struct{}), make(chan struct{})
	l.AppendAsync(eventlog.Append{Stream: "first", Entries: []eventlog.Entry{{Type: "t"}}},
		func([]eventlog.Record, error) { close(waits); <-go_ })
	<-waits
	before := l.Stats().Commits
	const n = 500
	answers := make(chan error, n)
	for v := range eventlog.Version(n) {
		l.AppendAsync(eventlog.Append{Stream: "s", Expected: v, Entries: []eventlog.Entry{{Type: "t"}}},
			func(_ []eventlog.Record, err error) { answers <- err })
	}
	close(go_)
	for range n {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
	if got := l.Stats().Commits - before; got != 1 {
		t.Errorf("%d transactions for %d appends that waited together", got, n)
	}
	if got := l.Stats().Records; got != n+1 {
		t.Errorf("Stats has %d records, want %d", got, n+1)
	}
}

// TestReadersLetGo: no reader keeps a transaction open while its consumer works,
// since that would make the file grow.
func TestReadersLetGo(t *testing.T) {
	l := open(t, Options{Path: filepath.Join(t.TempDir(), "events.db")})
	for v := range eventlog.Version(10) {
		mustAppend(t, l, "s", v)
	}
	check := func(what string) {
		t.Helper()
		if n := l.store.current().db.Stats().OpenTxN; n != 0 {
			t.Errorf("%s: %d transactions are open", what, n)
		}
	}
	for range l.Read(t.Context(), 1) {
		check("Read")
	}
	for range l.ReadStream(t.Context(), "s", 1) {
		check("ReadStream")
	}
	for range l.Subscribe(t.Context(), 1) {
		check("Subscribe")
		break
	}
}

// TestQueueIsBounded: an append that finds too much waiting is refused, in order.
func TestQueueIsBounded(t *testing.T) {
	l := open(t, Options{Path: filepath.Join(t.TempDir(), "events.db")})
	waits, go_ := make(chan struct{}), make(chan struct{})
	l.AppendAsync(eventlog.Append{Stream: "first", Entries: []eventlog.Entry{{Type: "t"}}},
		func([]eventlog.Record, error) { close(waits); <-go_ })
	<-waits
	payload := make([]byte, eventlog.MaxPayload)
	const n = maxWaitingBytes/eventlog.MaxPayload + 1
	answers := make(chan error, n)
	for range n {
		l.AppendAsync(eventlog.Append{Stream: "s", Expected: 99, Entries: []eventlog.Entry{{Type: "t", Payload: payload}}},
			func(_ []eventlog.Record, err error) { answers <- err })
	}
	close(go_)
	refused := 0
	for range n {
		switch err := <-answers; {
		case errors.Is(err, eventlog.ErrUnavailable):
			refused++
		case !errors.Is(err, eventlog.ErrWrongVersion):
			t.Errorf("%v", err)
		}
	}
	if refused == 0 || refused == n {
		t.Errorf("%d of %d were refused", refused, n)
	}
}

func TestOptions(t *testing.T) {
	if _, err := Open(Options{}); !errors.Is(err, eventlog.ErrInvalid) {
		t.Errorf("no path: %v", err)
	}
	path := filepath.Join(t.TempDir(), "events.db")
	if _, err := Open(Options{Path: path, BootID: strings.Repeat("x", eventlog.MaxName+1)}); !errors.Is(err, eventlog.ErrInvalid) {
		t.Errorf("long boot id: %v", err)
	}
	l := open(t, Options{Path: path})
	boot, err := eventlog.SystemBootID()
	if err != nil {
		t.Fatal(err)
	}
	if r := mustAppend(t, l, "s", 0); r.BootID != boot || r.SinceBoot <= 0 || r.Time.IsZero() {
		t.Errorf("%+v; want the kernel's boot id %q and times", r, boot)
	}
	// What bbolt's options must be, since nothing else would tell.
	db := l.store.current().db
	if db.NoFreelistSync || db.FreelistType != bolt.FreelistMapType || db.NoSync {
		t.Errorf("bbolt's options: %+v", db)
	}
}
