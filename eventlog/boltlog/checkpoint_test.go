package boltlog

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// pairsOf reads a checkpoint, with its sequence under the key "".
func pairsOf(t testing.TB, l eventlog.Reader, name string) (map[string]string, error) {
	t.Helper()
	saved, found, err := l.LoadCheckpoint(t.Context(), name)
	if err != nil || !found {
		return nil, err
	}
	all := map[string]string{"": fmt.Sprint(saved.Sequence)}
	for pair, err := range saved.Pairs {
		if err != nil {
			return nil, err
		}
		all[pair.Key] = string(pair.Value)
	}
	return all, nil
}

// largeDelta puts n pairs that differ from those of another sequence.
func largeDelta(sequence, after eventlog.Sequence, n int) eventlog.Delta {
	d := eventlog.Delta{Checkpoint: eventlog.Checkpoint{Sequence: sequence}, After: after, Put: make(map[string][]byte)}
	for i := range n {
		d.Put[fmt.Sprint("key/", i)] = fmt.Append(nil, "value ", i, " of ", sequence)
	}
	return d
}

// TestCheckpointIsOldOrNew stops a saving after each of its transactions, as a kill
// does: the checkpoint is the old one or the new one, the log is sound, and the next
// saving cleans up.
func TestCheckpointIsOldOrNew(t *testing.T) {
	for name, change := range map[string]func(*eventlog.Delta){
		"changed":  func(d *eventlog.Delta) { d.Delete = []string{"key/999", "key/998"} },
		"replaced": func(d *eventlog.Delta) { d.Replace, d.After = true, 0 },
	} {
		t.Run(name, func(t *testing.T) {
			states := map[string]int{}
			d := largeDelta(2, 1, 900)
			change(&d)
			for i, path := range stoppedSaving(t, d) {
				state, err := stateAfter(t, path)
				if err != nil {
					t.Fatalf("stopped after commit %d: %v", i+1, err)
				}
				states[state]++
			}
			if states["old"] < 3 || states["new"] < 3 {
				t.Errorf("the test does not reach all cases: %v", states)
			}
		})
	}
}

// stopped makes a log and changes it. It returns the paths of copies of the files after
// each commit of the change.
func stopped(t *testing.T, prepare, change func(*Log)) (paths []string) {
	t.Helper()
	dir := t.TempDir()
	counting := false // the writer's
	disk := realDisk
	disk.commit = func(tx *bolt.Tx) error {
		db := tx.DB().Path()
		err := commit(tx)
		if !counting {
			return err
		}
		path := filepath.Join(dir, fmt.Sprint("events-", len(paths), ".db"))
		paths = append(paths, path)
		for from, to := range map[string]string{db: path, journalPath(db): journalPath(path)} {
			b, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(to, b, 0o600)
			}
			if err != nil {
				t.Error(err)
			}
		}
		return err
	}
	l, err := openWith(Options{Path: filepath.Join(t.TempDir(), "original.db")}, disk)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	count := func(on bool) {
		done := make(chan struct{})
		l.AppendAsync(eventlog.Append{}, func([]eventlog.Record, error) { // it is refused, by the writer
			counting = on
			close(done)
		})
		<-done
	}
	prepare(l)
	count(true)
	change(l)
	count(false)
	return paths
}

// stoppedSaving is stopped with a change of a checkpoint.
func stoppedSaving(t *testing.T, d eventlog.Delta) (paths []string) {
	t.Helper()
	save := func(d eventlog.Delta) func(*Log) {
		return func(l *Log) {
			if err := l.SaveCheckpoint(t.Context(), "x", d); err != nil {
				t.Error(err)
			}
		}
	}
	return stopped(t, func(l *Log) {
		for v := range eventlog.Version(3) {
			mustAppend(t, l, "s", v)
		}
		save(largeDelta(1, 0, 1000))(l)
	}, save(d))
}

// stateAfter opens a log that was stopped, and returns which of two checkpoints it has. Then
// it saves the next one.
func stateAfter(t *testing.T, path string) (state string, err error) {
	l := open(t, Options{Path: path})
	defer l.Close()
	got, err := pairsOf(t, l, "x")
	if err != nil {
		return "", err
	}
	old, changed := largeDelta(1, 0, 1000), largeDelta(2, 1, 900)
	both := maps.Clone(old.Put)
	maps.Copy(both, changed.Put)
	delete(both, "key/998")
	delete(both, "key/999")
	var after eventlog.Sequence
	switch {
	case got[""] == "1" && same(got, old.Put):
		state, after = "old", 1
	case got[""] == "2" && (same(got, both) || same(got, changed.Put)):
		state, after = "new", 2
	default:
		return "", fmt.Errorf("%d pairs at %s are neither the old ones nor the new ones", len(got)-1, got[""])
	}
	if report, err := l.Verify(t.Context()); err != nil || !report.OK() {
		return "", fmt.Errorf("verify: %+v, %s", report, fmt.Sprint(err))
	}
	next := eventlog.Delta{Checkpoint: eventlog.Checkpoint{Sequence: 2}, After: after, Put: map[string][]byte{"key/0": nil}}
	if err := l.SaveCheckpoint(t.Context(), "x", next); err != nil {
		return "", err
	}
	return state, l.view(t.Context(), func(tx *bolt.Tx) error {
		c, err := checkpointOf(tx, "x")
		if err == nil && (c.overlay != 0 || c.loose != 0 || len(c.strays()) > 0) {
			err = fmt.Errorf("%s: not tidied: %+v", state, c.head)
		}
		return err
	})
}

// same compares pairs with what was put.
func same(got map[string]string, put map[string][]byte) bool {
	if len(got) != len(put)+1 {
		return false
	}
	for key, value := range put {
		if got[key] != string(value) {
			return false
		}
	}
	return true
}

// TestDamagedCheckpoint: damage makes the whole checkpoint unusable, deltas on it are
// refused, and it can be replaced.
func TestDamagedCheckpoint(t *testing.T) {
	key := append(area(1).prefix("x"), "key/5"...)
	for name, damage := range map[string]struct {
		key    []byte
		change func([]byte) []byte
	}{
		"the head":         {headKey("x"), flipFirstBit},
		"a value":          {key, flipFirstBit},
		"a value's end":    {key, func(b []byte) []byte { return b[:len(b)-1] }},
		"a value's key":    {append(area(1).prefix("x"), "key/6"...), func([]byte) []byte { return encodeEntry("x", "key/7", entryValue, nil).value }},
		"a missing value":  {key, remove},
		"an older value":   {key, func([]byte) []byte { return encodeEntry("x", "key/5", entryValue, []byte("older")).value }},
		"a value too many": {append(area(1).prefix("x"), "new"...), func([]byte) []byte { return encodeEntry("x", "new", entryValue, nil).value }},
		"of another record": {headKey("x"), func([]byte) []byte {
			return encodeHead("x", head{Checkpoint: eventlog.Checkpoint{Sequence: 9}, base: 1})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "events.db")
			l := open(t, Options{Path: path})
			mustAppend(t, l, "s", 0)
			if err := l.SaveCheckpoint(t.Context(), "x", largeDelta(1, 0, 20)); err != nil {
				t.Fatal(err)
			}
			l.Close()
			corrupt(t, path, bucketCheckpoints, damage.key, damage.change)
			l = open(t, Options{Path: path})
			if got, err := pairsOf(t, l, "x"); !errors.Is(err, eventlog.ErrCorrupt) {
				t.Errorf("%d pairs, %v", len(got), err)
			}
			if report, err := l.Verify(t.Context()); err != nil || report.OK() {
				t.Errorf("verify: %+v, %v", report, err)
			}
			d := largeDelta(1, 0, 300)
			d.Replace = true
			if err := l.SaveCheckpoint(t.Context(), "x", d); err != nil {
				t.Fatal(err)
			}
			if got, err := pairsOf(t, l, "x"); err != nil || !same(got, d.Put) {
				t.Errorf("replaced: %d pairs, %v", len(got), err)
			}
			if report, err := l.Verify(t.Context()); err != nil || !report.OK() {
				t.Errorf("replaced: verify: %+v, %v", report, err)
			}
		})
	}
}

// TestFirstFormat: a log of the first format, which had snapshots, can be read, and is
// upgraded when it is opened for writing.
func TestFirstFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	l := open(t, Options{Path: path})
	mustAppend(t, l, "s", 0)
	l.Close()
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		snapshots, err := tx.CreateBucket(bucketSnapshots)
		if err == nil {
			err = snapshots.Put([]byte("live"), bytes.Repeat([]byte("{}"), 10000))
		}
		for _, name := range buckets[formats[1]:] {
			err = errors.Join(err, tx.DeleteBucket(name))
		}
		meta := tx.Bucket(bucketMeta)
		return errors.Join(err, meta.Delete(keyUsage), meta.Put(keyFormat, formatValue(1)), sign(tx))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	checkWhole(t, r, 1)
	if _, found, err := r.LoadCheckpoint(t.Context(), "live"); found || err != nil {
		t.Errorf("found %v, %v", found, err)
	}
	r.Close()
	for v := range eventlog.Version(2) {
		l = open(t, Options{Path: path})
		mustAppend(t, l, "s", v+1)
		d := eventlog.Delta{Replace: true, Put: map[string][]byte{"a": nil}}
		if err := l.SaveCheckpoint(t.Context(), "live", d); err != nil {
			t.Fatal(err)
		}
		checkWhole(t, l, int(v)+2)
		l.Close()
	}
}
