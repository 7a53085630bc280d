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

// Verify implements eventlog.Reader. It looks at one state of the log, while
// appends go on.
func (r *Reader) Verify(ctx context.Context) (eventlog.Report, error) {
	const attempts = 100 // the writer has to be quick twice to spoil one
	for n := 1; ; n++ {
		v := &verifier{ctx: ctx, recent: r.recent.all()}
		if problem := r.recent.problem(); problem != nil {
			v.damage(eventlog.DamageError{Problem: problem.Error()})
		}
		err := r.view(ctx, v.verify)
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
	tx      *bolt.Tx
	decoder recordDecoder
	report  eventlog.Report
	steps   int
	recent  []eventlog.Record // of the journal; the first ones may be in the file, too
}

func (v *verifier) verify(tx *bolt.Tx) error {
	v.tx = tx
	sound, err := v.structure()
	if err != nil || !sound {
		// The trees cannot be walked with bbolt when their pages are damaged.
		return err
	}
	return v.content()
}

// content checks what is in the pages, which are sound.
func (v *verifier) content() error {
	for _, part := range []func() error{v.records, v.index, v.journal, v.checkpoints, v.signature} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// structure checks the pages that the transaction sees.
func (v *verifier) structure() (sound bool, err error) {
	f, err := os.Open(v.tx.DB().Path())
	if err != nil {
		return false, err
	}
	defer f.Close()
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
	faults := boltpages.Check(f, info.Size(), meta)
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

// records walks the log: each record is whole, none is missing, and the index
// knows each.
func (v *verifier) records() error {
	index := v.tx.Bucket(bucketIndex)
	next := eventlog.Sequence(1)
	return v.each(bucketRecords, func(k, value []byte) {
		sequence, ok := parseRecordKey(k)
		if !ok {
			v.damage(eventlog.DamageError{Problem: fmt.Sprintf("a record has the key %x", k)})
			return
		}
		if sequence > next {
			v.damage(missing(next, sequence-1))
		}
		next = sequence + 1
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
}

// index walks the streams: no version is missing, and each leads to its
// record. Damage inside of a record is not repeated here.
func (v *verifier) index() error {
	records := v.tx.Bucket(bucketRecords)
	var stream eventlog.Stream
	var next eventlog.Version
	return v.each(bucketIndex, func(k, value []byte) {
		s, version, ok := parseIndexKey(k)
		if !ok {
			v.damage(eventlog.DamageError{Problem: fmt.Sprintf("the index has the key %x", k)})
			return
		}
		if s != stream {
			v.report.Streams++
			stream, next = s, 1
		}
		if version > next {
			v.damage(missingVersions(s, next, version-1))
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

// journal counts what is not in the file yet, and finds what is missing in between.
// Each of these records was checked when it was read or written.
func (v *verifier) journal() error {
	for _, r := range v.recent {
		if r.Sequence <= v.report.Last {
			continue
		}
		if r.Sequence > v.report.Last+1 {
			v.damage(missing(v.report.Last+1, r.Sequence-1))
		}
		if v.report.First == 0 {
			v.report.First = r.Sequence
		}
		v.report.Last = r.Sequence
		v.report.Records++
		if r.Version == 1 {
			v.report.Streams++
		}
	}
	return nil
}

// signature checks that the trees are those of the transaction.
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
