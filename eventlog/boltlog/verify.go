package boltlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/internal/boltpages"
)

// Verify implements eventlog.Reader. It checks one state of the log while
// appends continue.
func (r *Reader) Verify(ctx context.Context) (eventlog.Report, error) {
	const attempts = 100 // the writer has to be quick twice to spoil one
	for n := 1; ; n++ {
		v := &verifier{ctx: ctx, recent: r.recent.all(), streams: make(map[eventlog.Stream]bool)}
		if problem := r.recent.problem(); problem != nil {
			v.damage(eventlog.DamageError{Problem: problem.Error()})
		}
		err := ctx.Err()
		if err == nil {
			err = r.store.viewHandle(ctx, false, v.verify)
		}
		if errors.Is(err, boltpages.ErrOverwritten) && n < attempts {
			continue
		}
		if err != nil {
			err = fmt.Errorf("verify event log %s: %w", r.store.opener.path, err)
		}
		return v.report, err
	}
}

type verifier struct {
	ctx     context.Context
	handle  *handle
	tx      *bolt.Tx
	decoder recordDecoder
	report  eventlog.Report
	steps   int
	recent  []eventlog.Record // of the journal; the first ones may also be in the file

	end     eventlog.Sequence        // last record or end of a hole
	streams map[eventlog.Stream]bool // seen so far; false: being removed
}

func (v *verifier) verify(h *handle, tx *bolt.Tx) error {
	v.handle, v.tx = h, tx
	sound, err := v.structure()
	if err != nil || !sound {
		// bbolt cannot walk trees whose pages are damaged.
		return err
	}
	return v.content()
}

// content checks what is in the pages, which are sound.
func (v *verifier) content() error {
	for _, part := range []func() error{v.holes, v.records, v.index, v.gaps, v.bases, v.journal, v.checkpoints, v.signature, v.usage} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// structure checks the pages that the transaction sees.
func (v *verifier) structure() (sound bool, err error) {
	f := v.handle.file
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	v.report.Bytes = info.Size()
	meta, err := boltpages.ReadMetaOf(f, info.Size(), uint64(v.tx.ID()))
	if err != nil {
		return false, err
	}
	if other := damagedMeta(f, info.Size()); other != nil {
		v.report.Add(&eventlog.DamageError{Problem: other.Error() + " (if it was the newer one, the last transaction is lost)"})
	}
	_, faults := boltpages.Check(f, info.Size(), meta)
	for _, d := range (&structureError{faults}).damage() {
		v.report.Add(d)
	}
	return len(faults) == 0, nil
}

// damagedMeta returns what is wrong with the older meta page. It looks twice,
// since the writer may be writing that very page.
func damagedMeta(f *os.File, size int64) error {
	if _, other, err := boltpages.ReadMeta(f, size); err != nil || other == nil {
		return err
	}
	_, other, err := boltpages.ReadMeta(f, size)
	return errors.Join(other, err)
}

// records checks that each record is sound and in the index, and that none is
// missing.
func (v *verifier) records() error {
	index, holes := v.tx.Bucket(bucketIndex), holesOf(v.tx)
	next := eventlog.Sequence(1)
	removed := func(*eventlog.GapError) {}
	err := v.each(bucketRecords, func(k, value []byte) {
		sequence, ok := parseRecordKey(k)
		if !ok {
			v.damage(eventlog.DamageError{Problem: fmt.Sprintf("a record has the key %x", k)})
			return
		}
		if sequence > next {
			holes.absent(next, sequence-1, removed, v.damage)
		}
		next = sequence + 1
		if hole, ok := holes.at(sequence); ok && hole.First <= sequence {
			v.damage(eventlog.DamageError{Sequence: sequence, Problem: "it was removed, but it exists"})
		}
		if v.report.First == 0 {
			v.report.First = sequence
		}
		v.report.Last = sequence
		record, err := decodeAt(&v.decoder, sequence, value)
		if err != nil {
			v.damage(eventlog.DamageError{Sequence: sequence, Problem: err.Error()})
			return
		}
		v.report.Records++
		if got := index.Get(indexKey(record.Stream, record.Version)); !bytes.Equal(got, k) {
			v.damage(eventlog.DamageError{
				Sequence: sequence, Stream: record.Stream, Version: record.Version,
				Problem: fmt.Sprintf("the index has %x for it", got),
			})
		}
	})
	v.end = holes.behind(next) - 1
	return err
}

// holes counts what was removed.
func (v *verifier) holes() error {
	if _, err := removingOf(v.tx); err != nil {
		v.damage(eventlog.DamageError{Problem: err.Error()})
	}
	v.report.Removed = make(eventlog.Rules)
	if v.tx.Bucket(bucketHoles) == nil {
		return nil
	}
	var last eventlog.Sequence
	return v.each(bucketHoles, func(k, value []byte) {
		h, err := parseHole(k, value)
		switch {
		case err != nil:
		case h.First <= last || h.Last < h.First:
			err = fmt.Errorf("the removed range %d to %d does not follow %d", h.First, h.Last, last)
		case h.Rules.Total() != h.gap().Records():
			err = fmt.Errorf("of the removed range %d to %d, %d records are counted: %v", h.First, h.Last, h.Rules.Total(), h.Rules)
		}
		if err != nil {
			v.damage(eventlog.DamageError{Problem: err.Error()})
			return
		}
		last = h.Last
		v.report.Removed = v.report.Removed.With(h.Rules)
	})
}

// gaps checks what was removed inside of streams.
func (v *verifier) gaps() error {
	if v.tx.Bucket(bucketGaps) == nil {
		return nil
	}
	index := v.tx.Bucket(bucketIndex)
	under, _ := removingOf(v.tx)
	return v.each(bucketGaps, func(k, value []byte) {
		g, err := parseGap(k, value)
		switch {
		case err != nil:
		case g.Through < g.From:
			err = fmt.Errorf("the removed versions %d to %d are in disorder", g.From, g.Through)
		case g.Rules.Total() != g.Records():
			err = fmt.Errorf("of the removed versions %d to %d, %d records are counted: %v", g.From, g.Through, g.Rules.Total(), g.Rules)
		case under.stream == g.Stream && g.From <= under.through:
			return // it goes, too
		default:
			if next, _ := index.Cursor().Seek(indexKey(g.Stream, g.From)); next != nil {
				if s, version, ok := parseIndexKey(next); ok && s == g.Stream && version <= g.Through {
					err = fmt.Errorf("version %d was removed, but it exists", version)
				}
			}
		}
		if err != nil {
			v.damage(eventlog.DamageError{Stream: g.Stream, Version: g.From, Problem: err.Error()})
		}
	})
}

// bases checks the streams' bases, and counts streams that have nothing else.
func (v *verifier) bases() error {
	if v.tx.Bucket(bucketBases) == nil {
		return nil
	}
	under, _ := removingOf(v.tx)
	return v.each(bucketBases, func(k, _ []byte) {
		s := eventlog.Stream(k)
		base, err := baseOf(v.tx, s)
		if err == nil && base.Sequence > v.end {
			err = fmt.Errorf("the base of stream %q is of record %d, beyond the last one", s, base.Sequence)
		}
		if damage, ok := errors.AsType[*eventlog.DamageError](err); ok {
			v.damage(*damage)
		} else if err != nil {
			v.damage(eventlog.DamageError{Stream: s, Problem: err.Error()})
		}
		if head, _ := streamHead(v.tx, s); head == 0 && !under.drops(s) {
			v.streams[s] = true
		}
	})
}

// index checks that no version is missing and that each leads to its record.
// Damage inside of a record is not reported again.
func (v *verifier) index() error {
	records := v.tx.Bucket(bucketRecords)
	under, _ := removingOf(v.tx)
	gaps, removed := gapsOf(v.tx), func(*eventlog.GapError) {}
	var stream eventlog.Stream
	var next eventlog.Version
	return v.each(bucketIndex, func(k, value []byte) {
		s, version, ok := parseIndexKey(k)
		if !ok {
			v.damage(eventlog.DamageError{Problem: fmt.Sprintf("the index has the key %x", k)})
			return
		}
		if s != stream {
			stream, next = s, v.begin(s, version)
			v.streams[s] = !under.drops(s)
		}
		if version > next {
			gaps.absent(streamRange{s, next, version - 1}, removed, v.damage)
		}
		next = version + 1
		sequence, ok := parseRecordKey(value)
		found := records.Get(value)
		if !ok || found == nil {
			v.damage(eventlog.DamageError{Sequence: sequence, Stream: s, Version: version, Problem: "the index leads to no record"})
			return
		}
		record, err := decodeAt(&v.decoder, sequence, found)
		if err == nil && (record.Stream != s || record.Version != version) {
			v.damage(eventlog.DamageError{
				Sequence: sequence, Stream: s, Version: version,
				Problem: fmt.Sprintf("the index leads to version %d of stream %q", record.Version, record.Stream),
			})
		}
	})
}

// begin is the first version that a stream must have; any while it is being trimmed.
func (v *verifier) begin(s eventlog.Stream, found eventlog.Version) eventlog.Version {
	if under, err := removingOf(v.tx); err == nil && under.stream == s && found <= under.through {
		return found
	}
	base, _ := baseOf(v.tx, s) // bases says what is wrong with it
	return base.Version + 1
}

// journal counts records that are not in the file yet, and reports gaps. The records
// themselves were checked when they were read or written.
func (v *verifier) journal() error {
	last := v.end
	for _, r := range v.recent {
		if r.Sequence <= last {
			continue
		}
		if r.Sequence > last+1 {
			v.damage(missing(last+1, r.Sequence-1))
		}
		if v.report.First == 0 {
			v.report.First = r.Sequence
		}
		last, v.report.Last = r.Sequence, r.Sequence
		v.report.Records++
		v.streams[r.Stream] = true
	}
	for _, exists := range v.streams {
		if exists {
			v.report.Streams++
		}
	}
	v.end = last
	return nil
}

// signature checks that the trees belong to the transaction.
func (v *verifier) signature() error {
	meta := v.tx.Bucket(bucketMeta)
	if meta == nil {
		return errors.New("bucket " + string(bucketMeta) + " is gone")
	}
	var last eventlog.Sequence
	if k, _ := v.tx.Bucket(bucketRecords).Cursor().Last(); k != nil {
		last, _ = parseRecordKey(k)
	}
	if got, want := meta.Get(keyLast), lastValue(v.tx, last); !bytes.Equal(got, want) {
		v.damage(eventlog.DamageError{Problem: fmt.Sprintf("the last transaction and record are noted as %x, but they are %x", got, want)})
	}
	return nil
}

// each calls fn for all pairs of a bucket.
func (v *verifier) each(bucket []byte, fn func(k, value []byte)) error {
	b := v.tx.Bucket(bucket)
	if b == nil {
		return errors.New("bucket " + string(bucket) + " is gone")
	}
	return b.ForEach(func(k, value []byte) error {
		const stride = 1024 // so that looking at the context costs nothing
		if v.steps++; v.steps%stride == 0 && v.ctx.Err() != nil {
			return v.ctx.Err()
		}
		fn(k, value)
		return nil
	})
}

func (v *verifier) damage(d eventlog.DamageError) { v.report.Add(&d) }
