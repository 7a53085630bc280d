package boltlog

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/eventlog"
)

// original is a log before something happens to it.
type original struct {
	bytes       []byte            // of the file, as far as it is in use
	records     []eventlog.Record // all that there ever were, by sequence
	left        []eventlog.Record // those that were not trimmed
	streams     map[eventlog.Stream][]eventlog.Record
	checkpoints map[string]eventlog.Delta
}

// makeOriginal writes a log that has what can be damaged: branch pages,
// overflow pages, inline buckets, both meta pages, free pages.
func makeOriginal(t testing.TB) *original {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.db")
	l := open(t, Options{Path: path})
	o := &original{streams: make(map[eventlog.Stream][]eventlog.Record), checkpoints: make(map[string]eventlog.Delta)}
	for i := range 240 {
		s := eventlog.Stream(fmt.Sprintf("container/%02d-%s", i%6, strings.Repeat("x", 60)))
		payload := bytes.Repeat([]byte{byte(i)}, i)
		if i%60 == 59 {
			payload = bytes.Repeat(payload, 200) // several pages
		}
		records, err := l.Append(t.Context(), eventlog.Append{
			Stream: s, Expected: eventlog.Version(i / 6),
			Entries: []eventlog.Entry{{Type: "test.Happened", Payload: payload}},
		})
		if err != nil {
			t.Fatal(err)
		}
		o.records, o.left = append(o.records, records...), append(o.left, records...)
		o.streams[s] = append(o.streams[s], records...)
	}
	o.trim(t, l, "gone", eventlog.Trim{Rule: "age", Through: 5, Whole: true})
	o.trim(t, l, "node", eventlog.Trim{Rule: "age", Through: 3, State: []byte("three")})
	o.thin(t, l, "busy")
	o.checkpoints["small"] = eventlog.Delta{Checkpoint: eventlog.Checkpoint{Sequence: 7}, Put: map[string][]byte{"x": []byte("y")}}
	large := eventlog.Delta{Checkpoint: eventlog.Checkpoint{Sequence: 240}, Put: map[string][]byte{"large": make([]byte, 20000)}}
	for i := range 300 {
		large.Put[fmt.Sprint("sandbox/", i)] = bytes.Repeat([]byte{byte(i)}, i)
	}
	o.checkpoints["large"] = large
	for name, d := range o.checkpoints {
		if err := l.SaveCheckpoint(t.Context(), name, d); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var inUse int64
	if err := r.store.view(t.Context(), false, func(tx *bolt.Tx) error { inUse = tx.Size(); return nil }); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	o.bytes = all[:inUse]
	return o
}

// thin appends a stream of 30 records, and thins it out.
func (o *original) thin(t testing.TB, l *Log, s eventlog.Stream) {
	t.Helper()
	entries := slices.Repeat([]eventlog.Entry{{Type: "t", Payload: []byte{}}}, 30)
	records, err := l.Append(t.Context(), eventlog.Append{Stream: s, Entries: entries})
	if err != nil {
		t.Fatal(err)
	}
	what := eventlog.Thin{Rule: "settled"}
	for i, r := range records {
		if i%5 < 2 {
			what.Sequences = append(what.Sequences, r.Sequence)
			continue
		}
		o.left, o.streams[s] = append(o.left, r), append(o.streams[s], r)
	}
	if err := l.Thin(t.Context(), what); err != nil {
		t.Fatal(err)
	}
	o.records = append(o.records, records...)
}

// trim appends a stream of 5 records, and trims it.
func (o *original) trim(t testing.TB, l *Log, s eventlog.Stream, what eventlog.Trim) {
	t.Helper()
	entries := slices.Repeat([]eventlog.Entry{{Type: "t", Payload: []byte{}}}, 5)
	records, err := l.Append(t.Context(), eventlog.Append{Stream: s, Entries: entries})
	if err != nil {
		t.Fatal(err)
	}
	what.Stream = s
	if err := l.Trim(t.Context(), what); err != nil {
		t.Fatal(err)
	}
	o.records = append(o.records, records...)
	o.left = append(o.left, records[what.Through:]...)
	o.streams[s] = records[what.Through:]
}

// write writes changed bytes as a log file and returns its path.
func write(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFlippedBits: whichever bit of the file is flipped, the log is refused with
// ErrCorrupt, or it opens; then each record that it returns is the one that was
// written, and Verify reports whatever is missing.
func TestFlippedBits(t *testing.T) {
	o := makeOriginal(t)
	var refused, reported, harmless int
	check := func(t testing.TB, bits []int) {
		b := bytes.Clone(o.bytes)
		for _, bit := range bits {
			b[bit/8] ^= 1 << (bit % 8)
		}
		switch sound, err := o.checkDamaged(t, write(t, b)); {
		case err != nil:
			t.Fatalf("flipped bits %v: %v", bits, err)
		case sound == nil:
			refused++
		case *sound:
			harmless++
		default:
			reported++
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		check(t, rapid.SliceOfN(rapid.IntRange(0, len(o.bytes)*8-1), 1, 4).Draw(rt, "bits"))
	})
	// The pages' headers and element arrays are a small part of the file but
	// the dangerous one, so they get their own share.
	pageSize := os.Getpagesize()
	rapid.Check(t, func(rt *rapid.T) {
		page := rapid.IntRange(0, len(o.bytes)/pageSize-1).Draw(rt, "page")
		bit := rapid.IntRange(0, 200*8-1).Draw(rt, "bit")
		check(t, []int{page*pageSize*8 + bit})
	})
	t.Logf("of the files, %d were refused, %d opened with damage reported, %d lost nothing", refused, reported, harmless)
	if refused == 0 || reported == 0 || harmless == 0 {
		t.Errorf("the test doesn't reach all cases")
	}
}

// checkDamaged opens a damaged log, reads all of it and appends to it. sound
// is nil if the log was refused, and otherwise reports whether nothing is lost.
// The error is a broken promise.
func (o *original) checkDamaged(t testing.TB, path string) (sound *bool, err error) {
	l, err := Open(Options{Path: path, BootID: "after"})
	if err != nil {
		if !errors.Is(err, eventlog.ErrCorrupt) {
			return nil, fmt.Errorf("open: %w", err)
		}
		if r, err := OpenReadOnly(path); !errors.Is(err, eventlog.ErrCorrupt) {
			if err == nil {
				r.Close()
			}
			return nil, fmt.Errorf("refused to write, but to read: %w", err)
		}
		return nil, nil
	}
	defer l.Close()
	e := examination{original: o, t: t}
	if err := e.examine(l); err != nil {
		return nil, err
	}
	report, err := l.Verify(t.Context())
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if len(e.lost) > 0 && report.OK() {
		return nil, fmt.Errorf("lost (%s), but the report is good: %+v", strings.Join(e.lost, "; "), report)
	}
	// Whatever is damaged, other streams go on.
	records, err := l.Append(t.Context(), eventlog.Append{Stream: "other", Entries: []eventlog.Entry{{Type: "t"}}})
	if err != nil && !errors.Is(err, eventlog.ErrCorrupt) {
		return nil, fmt.Errorf("append: %w", err)
	}
	if err == nil && records[0].Sequence != l.Last() {
		return nil, fmt.Errorf("appended record %d, but the last is %d", records[0].Sequence, l.Last())
	}
	whole := len(e.lost) == 0
	return &whole, nil
}

// examination compares a damaged log with what it was.
type examination struct {
	*original
	t    testing.TB
	lost []string // what differs, in words
}

// examine reads everything. The error is about something that was never written.
func (e *examination) examine(l eventlog.Reader) error {
	if err := e.records(l.Read(e.t.Context(), 1), "read", e.left); err != nil {
		return err
	}
	for s, want := range e.streams {
		if err := e.records(l.ReadStream(e.t.Context(), s, 1), "read "+string(s), want); err != nil {
			return err
		}
	}
	info, found, err := l.Stream(e.t.Context(), "node")
	switch {
	case errors.Is(err, eventlog.ErrCorrupt), err == nil && !found, err == nil && info.Base.Version == 0, err == nil && info.Version < 5:
		e.lost = append(e.lost, fmt.Sprintf("the node's stream: %+v, %v", info, err))
	case err != nil, string(info.Base.State) != "three", info.Base.Version != 3:
		return fmt.Errorf("the node's stream was never %+v, %w", info, err)
	}
	for name, want := range e.checkpoints {
		if err := e.checkpoint(l, name, want); err != nil {
			return fmt.Errorf("checkpoint %q: %w", name, err)
		}
	}
	return nil
}

func (e *examination) records(got iter.Seq2[eventlog.Record, error], what string, want []eventlog.Record) error {
	seen := 0
	for r, err := range got {
		var damage *eventlog.DamageError
		switch {
		case errors.As(err, &damage), errors.Is(err, eventlog.ErrCorrupt):
			e.lost = append(e.lost, fmt.Sprintf("%s: %v", what, err))
		case errors.Is(err, eventlog.ErrRemoved):
			var g *eventlog.GapError
			if errors.As(err, &g); g.Rules["age"]+g.Rules["settled"] != g.Records() {
				return fmt.Errorf("%s: never removed: %w", what, err)
			}
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		default:
			seen++
			if int(r.Sequence) > len(e.original.records) || !reflect.DeepEqual(r, e.original.records[r.Sequence-1]) {
				return fmt.Errorf("%s: record %d was never written: %+v", what, r.Sequence, r)
			}
		}
	}
	if seen != len(want) {
		e.lost = append(e.lost, fmt.Sprintf("%s: %d of %d records", what, seen, len(want)))
	}
	return nil
}

func (e *examination) checkpoint(l eventlog.Reader, name string, want eventlog.Delta) error {
	saved, found, err := l.LoadCheckpoint(e.t.Context(), name)
	if found && saved.Checkpoint != want.Checkpoint {
		return fmt.Errorf("it was never at %+v", saved.Checkpoint)
	}
	if found {
		err = e.pairs(saved, want)
	}
	switch {
	case err != nil && !errors.Is(err, eventlog.ErrCorrupt):
		return err
	case err != nil || !found:
		e.lost = append(e.lost, fmt.Sprintf("checkpoint %q: found %v, %v", name, found, err))
	}
	return nil
}

func (e *examination) pairs(saved eventlog.Saved, want eventlog.Delta) error {
	seen := 0
	for pair, err := range saved.Pairs {
		if err != nil {
			return err
		}
		if value, ok := want.Put[pair.Key]; !ok || !bytes.Equal(pair.Value, value) {
			return fmt.Errorf("%q never had %x", pair.Key, pair.Value)
		}
		seen++
	}
	if seen != len(want.Put) {
		return fmt.Errorf("%d of %d pairs, and no error", seen, len(want.Put))
	}
	return nil
}

func TestTruncated(t *testing.T) {
	o := makeOriginal(t)
	pageSize := os.Getpagesize()
	lengths := []int{1, 100, len(o.bytes) - 1}
	for n := pageSize; n < len(o.bytes); n += pageSize {
		lengths = append(lengths, n, n+pageSize/2)
	}
	for _, n := range lengths {
		path := write(t, o.bytes[:n])
		for name, open := range openers(path) {
			if err := open(); !errors.Is(err, eventlog.ErrCorrupt) {
				t.Errorf("%s of the first %d of %d bytes: %v", name, n, len(o.bytes), err)
			}
		}
		if info, err := os.Stat(path); err != nil || info.Size() != int64(n) {
			t.Fatalf("the damaged file was changed: %v, %v", info.Size(), err)
		}
	}
}

// openers are the two ways to open a log, for those that must fail.
func openers(path string) map[string]func() error {
	return map[string]func() error{
		"Open": func() error {
			l, err := Open(Options{Path: path})
			if err == nil {
				l.Close()
			}
			return err
		},
		"OpenReadOnly": func() error {
			r, err := OpenReadOnly(path)
			if err == nil {
				r.Close()
			}
			return err
		},
	}
}

func TestNotALog(t *testing.T) {
	foreign := filepath.Join(t.TempDir(), "foreign.db")
	db, err := bolt.Open(foreign, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	foreignBytes, err := os.ReadFile(foreign)
	if err != nil {
		t.Fatal(err)
	}
	o := makeOriginal(t)
	for name, c := range map[string]struct {
		bytes []byte
		want  string
	}{
		"empty":              {nil, "empty"},
		"a text":             {bytes.Repeat([]byte("not a log\n"), 10000), "magic number"},
		"zeros":              {make([]byte, len(o.bytes)), "magic number"},
		"another bbolt file": {foreignBytes, "without the bucket"},
		"a broken format":    {bytes.ReplaceAll(o.bytes, formatValue(presentFormat), bytes.Repeat([]byte("?"), len(formatValue(3)))), "format"},
		"format 2, damaged":  {bytes.ReplaceAll(o.bytes, []byte("event log 3"), []byte("event log 2")), "format"},
		"format 4, damaged":  {bytes.ReplaceAll(o.bytes, []byte("event log 3"), []byte("event log 4")), "format"},
		"without a bucket":   {bytes.ReplaceAll(o.bytes, bucketCheckpoints, []byte("checkpointz")), "checkpoints"},
	} {
		path := write(t, c.bytes)
		for how, open := range openers(path) {
			err := open()
			if !errors.Is(err, eventlog.ErrCorrupt) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %s: %v; want one that names %q and the file", name, how, err, c.want)
			}
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, c.bytes) {
			t.Errorf("%s: the file was changed (%v)", name, err)
		}
	}
}

// TestLaterFormat: a log of a newer version is not damaged, and is left alone.
func TestLaterFormat(t *testing.T) {
	o := makeOriginal(t)
	path := write(t, bytes.ReplaceAll(o.bytes, formatValue(presentFormat), formatValue(9)))
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for how, open := range openers(path) {
		err := open()
		if !errors.Is(err, eventlog.ErrNewer) || errors.Is(err, eventlog.ErrCorrupt) || !strings.Contains(err.Error(), "stele event log 9") {
			t.Errorf("%s: %v", how, err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the file was changed (%v)", err)
	}
}

// TestLinkIsNotFollowed: the log's name must not be a link, which could make the
// daemon write elsewhere.
func TestLinkIsNotFollowed(t *testing.T) {
	o := makeOriginal(t)
	target := write(t, o.bytes)
	link := filepath.Join(t.TempDir(), "events.db")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	for how, open := range openers(link) {
		if err := open(); err == nil || !strings.Contains(err.Error(), link) {
			t.Errorf("%s: %v", how, err)
		}
	}
	for how, open := range openers(t.TempDir()) {
		if err := open(); err == nil {
			t.Errorf("%s: a directory was opened", how)
		}
	}
}

// corrupt changes a value in a log that is not open.
func corrupt(t testing.TB, path string, bucket, key []byte, change func(value []byte) []byte) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucket)
		var err error
		if value := change(bytes.Clone(b.Get(key))); value != nil {
			err = b.Put(key, value)
		} else {
			err = b.Delete(key)
		}
		return errors.Join(err, sign(tx))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func flipFirstBit(b []byte) []byte { b[0] ^= 1; return b }
func remove([]byte) []byte         { return nil }

// TestDamageIsPrecise: damage is reported with its place, and everything else is
// readable.
func TestDamageIsPrecise(t *testing.T) {
	o := makeOriginal(t)
	victim := o.records[100]
	path := write(t, o.bytes)
	corrupt(t, path, bucketRecords, recordKey(victim.Sequence), flipFirstBit)
	corrupt(t, path, bucketRecords, recordKey(51), remove)
	corrupt(t, path, bucketRecords, recordKey(52), remove)
	corrupt(t, path, bucketIndex, indexKey(o.records[199].Stream, o.records[199].Version), remove)
	corrupt(t, path, bucketIndex, indexKey(o.records[150].Stream, o.records[150].Version), func([]byte) []byte { return recordKey(3) })
	corrupt(t, path, bucketCheckpoints, headKey("small"), flipFirstBit)
	corrupt(t, path, bucketCheckpoints, append(area(1).prefix("large"), "sandbox/7"...), flipFirstBit)

	for how, l := range map[string]eventlog.Reader{"Open": open(t, Options{Path: path}), "OpenReadOnly": nil} {
		if l == nil {
			r, err := OpenReadOnly(write(t, readFile(t, path)))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			l = r
		}
		want := []string{
			"records 51 to 52: missing",
			"record 101: CRC-32C is ",
		}
		if got, n := readThroughDamage(t, l.Read(t.Context(), 1)); n != len(o.left)-3 || !match(got, want) {
			t.Errorf("%s: Read: %d records and %q, want %d and %q", how, n, got, len(o.left)-3, want)
		}
		got, n := readThroughDamage(t, l.ReadStream(t.Context(), victim.Stream, 1))
		if want := []string{fmt.Sprintf("record 101 (stream %q, version %d): CRC-32C is", victim.Stream, victim.Version)}; n != 39 || !match(got, want) {
			t.Errorf("%s: ReadStream: %d records and %q, want 39 and %q", how, n, got, want)
		}
		report, err := l.Verify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want = []string{
			"records 51 to 52: missing",
			"record 101: CRC-32C is ",
			"record 151 (stream ", // the index has another sequence for it
			"record 200 (stream ", // the index has nothing for it
			"index leads to no record", "index leads to no record",
			"index leads to version 1 of stream",
			"versions 34 to 34 are not in the index",
			`checkpoint "small": CRC-32C is`,
			`checkpoint "small": there are pairs of area 1`,
			`checkpoint "large": key "sandbox/7": CRC-32C is`,
		}
		var all []string
		for _, d := range report.Damage {
			all = append(all, d.Error())
		}
		if !matchAnyOrder(all, want) {
			t.Errorf("%s: Verify:\n%s\nwant\n%s", how, strings.Join(all, "\n"), strings.Join(want, "\n"))
		}
	}
}

func readFile(t testing.TB, path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// readThroughDamage reads to the end and returns the reported damage and the
// number of records.
func readThroughDamage(t testing.TB, records iter.Seq2[eventlog.Record, error]) (damage []string, n int) {
	for _, err := range records {
		var d *eventlog.DamageError
		switch {
		case errors.Is(err, eventlog.ErrRemoved):
		case errors.As(err, &d):
			damage = append(damage, d.Error())
		case err != nil:
			t.Fatal(err)
		default:
			n++
		}
	}
	return damage, n
}

// match says whether got has an element for each of want, in order, that
// contains it.
func match(got, want []string) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if !strings.Contains(got[i], want[i]) {
			return false
		}
	}
	return true
}

// matchAnyOrder is match without the order.
func matchAnyOrder(got, want []string) bool {
	if len(got) != len(want) {
		return false
	}
	left := append([]string{}, got...)
	for _, w := range want {
		found := false
		for i := range left {
			if strings.Contains(left[i], w) {
				left, found = append(left[:i], left[i+1:]...), true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// TestDamagedEnd: a damaged last record keeps its sequence, and a damaged key does
// not change the log's length.
func TestDamagedEnd(t *testing.T) {
	o := makeOriginal(t)
	path := write(t, o.bytes)
	last := eventlog.Sequence(len(o.records))
	corrupt(t, path, bucketRecords, recordKey(last), flipFirstBit)
	corrupt(t, path, bucketRecords, recordKey(last-1), flipFirstBit)
	l := open(t, Options{Path: path})
	if l.Last() != last {
		t.Errorf("two damaged records at the end: Last() = %d, want %d", l.Last(), last)
	}
	records, err := l.Append(t.Context(), eventlog.Append{Stream: "next", Entries: []eventlog.Entry{{Type: "t"}}})
	if err != nil || records[0].Sequence != last+1 {
		t.Errorf("the next record: %v, %v", records, err)
	}

	path = write(t, o.bytes)
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketRecords)
		value := bytes.Clone(b.Get(recordKey(last)))
		if err := b.Delete(recordKey(last)); err != nil {
			return err
		}
		return b.Put(recordKey(last|1<<63), value)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, Options{Path: path})
	if l.Last() != last {
		t.Errorf("a damaged key at the end: Last() = %d, want %d", l.Last(), last)
	}
}

// TestFileVanishesWhileOpen: the file is cut off under an open log, which no
// check at the start can prevent. All calls return errors, none hangs, and the
// process survives.
func TestFileVanishesWhileOpen(t *testing.T) {
	for name, keep := range map[string]int64{"two pages": int64(2 * os.Getpagesize()), "nothing": 0} {
		t.Run(name, func(t *testing.T) {
			o := makeOriginal(t)
			path := write(t, o.bytes)
			l := open(t, Options{Path: path})
			if err := os.Truncate(path, keep); err != nil {
				t.Fatal(err)
			}
			if _, err := drain(l.Read(t.Context(), 1)); !errors.Is(err, eventlog.ErrCorrupt) && !errors.Is(err, eventlog.ErrUnavailable) {
				t.Errorf("Read: %v", err)
			}
			for range 3 {
				_, err := l.Append(t.Context(), eventlog.Append{Stream: "s", Entries: []eventlog.Entry{{Type: "t"}}})
				if !errors.Is(err, eventlog.ErrCorrupt) && !errors.Is(err, eventlog.ErrUnavailable) {
					t.Errorf("Append: %v", err)
				}
			}
			if report, err := l.Verify(t.Context()); err == nil && report.OK() {
				t.Errorf("Verify found nothing to complain about: %+v", report)
			}
		})
	}
}

// drain returns the number of records and the last error.
func drain(records iter.Seq2[eventlog.Record, error]) (n int, last error) {
	for _, err := range records {
		if errors.Is(err, eventlog.ErrRemoved) {
			continue
		}
		if err != nil {
			last = err
		} else {
			n++
		}
	}
	return n, last
}
