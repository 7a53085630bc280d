package boltlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// fileSize is enough for the logs of these tests.
const fileSize = 4 << 20

// powerFailure is a log file around one commit.
type powerFailure struct {
	before, after             []byte
	recordsBefore, recordsNow int
}

// failures makes a log and returns what its file was around some of its commits.
func failures(t *testing.T, random *rand.Rand) []powerFailure {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.db")
	var all []powerFailure
	count := 0
	var l *Log
	commit := func(tx *bolt.Tx) error {
		if random.IntN(8) > 0 {
			return commitOnce(tx)
		}
		before := inUse(readFile(t, path))
		if err := commitOnce(tx); err != nil {
			return err
		}
		all = append(all, powerFailure{before: before, after: inUse(readFile(t, path)), recordsBefore: count})
		return nil
	}
	l, err := openWith(Options{Path: path, BootID: "the first"}, commit)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	versions := map[eventlog.Stream]eventlog.Version{}
	for i := range 150 {
		s := eventlog.Stream(fmt.Sprintf("sandbox/%d", random.IntN(20)))
		var entries []eventlog.Entry
		for range 1 + random.IntN(3) {
			payload := make([]byte, random.IntN(1500))
			if random.IntN(10) == 0 {
				payload = make([]byte, 20_000) // several pages
			}
			for i := range payload {
				payload[i] = byte(random.Uint32())
			}
			entries = append(entries, eventlog.Entry{Type: "test.Happened", Payload: payload})
		}
		taken := len(all)
		if _, err := l.Append(t.Context(), eventlog.Append{Stream: s, Expected: versions[s], Entries: entries}); err != nil {
			t.Fatal(err)
		}
		versions[s] += eventlog.Version(len(entries))
		count += len(entries)
		if len(all) > taken {
			all[taken].recordsNow = count
		}
		if i%37 == 36 {
			taken := len(all)
			if err := l.SaveSnapshot(t.Context(), "live", eventlog.Snapshot{Sequence: l.Last(), Payload: make([]byte, random.IntN(30_000))}); err != nil {
				t.Fatal(err)
			}
			if len(all) > taken {
				all[taken].recordsNow = count
			}
		}
	}
	return all
}

// inUse cuts off the pages that bbolt has in store, which are zero.
func inUse(file []byte) []byte { return bytes.TrimRight(file, "\x00") }

// tear returns the file after a commit of which only some sectors came to the disk.
func (f powerFailure) tear(random *rand.Rand, size int) []byte {
	// The file has grown before anything is written to it.
	torn := make([]byte, fileSize)
	copy(torn, f.before)
	for at := 0; at < len(f.after); at += size {
		end := min(at+size, len(f.after))
		if !bytes.Equal(torn[at:end], f.after[at:end]) && random.IntN(2) == 0 {
			copy(torn[at:end], f.after[at:end])
		}
	}
	return torn
}

// TestPowerFailure lets any part of the last transaction reach the disk, by pages
// and by sectors: after the boot the log has the transaction or doesn't, and it is
// sound.
func TestPowerFailure(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	outcomes := map[string]int{}
	check := func(path, what string, f powerFailure) {
		l, err := Open(Options{Path: path, BootID: "the second", Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer l.Close()
		n := 0
		for _, err := range l.Read(t.Context(), 1) {
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			n++
		}
		switch {
		case n == f.recordsNow:
			outcomes["kept"]++
		case n == f.recordsBefore && what != "whole":
			outcomes["undone"]++
		default:
			t.Fatalf("%s: the log has %d records; it had %d before the commit and %d after", what, n, f.recordsBefore, f.recordsNow)
		}
		// It goes on, which overwrites the meta page that was set aside.
		if _, err := l.Append(context.Background(), eventlog.Append{Stream: "later", Entries: []eventlog.Entry{{Type: "t"}}}); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		checkWhole(t, l, n+1)
	}
	for _, f := range failures(t, random) {
		check(write(t, append(bytes.Clone(f.after), make([]byte, fileSize-len(f.after))...)), "whole", f)
		for range 8 {
			check(write(t, f.tear(random, 4096)), "torn pages", f)
			check(write(t, f.tear(random, 512)), "torn sectors", f)
		}
	}
	t.Log(outcomes)
	if outcomes["kept"] == 0 || outcomes["undone"] == 0 {
		t.Errorf("the test shows only a part: %v", outcomes)
	}
}

// TestNoFailureNothingUndone damages what the last transaction wrote while the
// machine was up: that is no power failure, and the transaction may have been
// acknowledged.
func TestNoFailureNothingUndone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	var before []byte
	l, err := openWith(Options{Path: path}, func(tx *bolt.Tx) error {
		before = readFile(t, path)
		return commitOnce(tx)
	})
	if err != nil {
		t.Fatal(err)
	}
	for v := range eventlog.Version(5) {
		if _, err := l.Append(t.Context(), eventlog.Append{Stream: "s", Expected: v, Entries: []eventlog.Entry{{Type: "t", Payload: make([]byte, 3000)}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// All that the last commit wrote is gone but its meta page.
	after := readFile(t, path)
	damaged := append(bytes.Clone(before), make([]byte, len(after)-len(before))...)
	copy(damaged[:2*os.Getpagesize()], after)
	path = write(t, damaged)
	l, err = Open(Options{Path: path})
	if err == nil {
		defer l.Close()
		report, err := l.Verify(t.Context())
		if err != nil || report.OK() {
			t.Errorf("the damage is not seen: %+v, %v", report, err)
		}
		return
	}
	if !errors.Is(err, eventlog.ErrCorrupt) {
		t.Error(err)
	}
	if got := readFile(t, path); !bytes.Equal(got, damaged) {
		t.Error("the damaged file was changed")
	}
}
