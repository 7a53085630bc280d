package projections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/eventlog"
	statepb "github.com/stele-runtime/stele/proto/state/v1"
)

// Comparison is a snapshot held against a fold of the records that it is of.
type Comparison struct {
	// Sequence is the record as of which the snapshot is.
	Sequence eventlog.Sequence
	// Records were folded. Pods and Containers are those that are left; Dropped are the streams
	// in the snapshot of which the log no longer has enough.
	Records, Pods, Containers, Dropped int
	// Difference is the first one, in words; empty if they are equal.
	Difference string
}

// errNoSnapshot: a young log has none.
var errNoSnapshot = fmt.Errorf("the log has no snapshot yet: a daemon saves one every %d records", checkpointEvery)

// CompareSnapshot folds a log from nothing, up to the record of its newest snapshot, and compares
// all models with it.
func CompareSnapshot(ctx context.Context, log eventlog.Reader) (Comparison, error) {
	saved, found, err := log.LoadCheckpoint(ctx, checkpointName)
	switch {
	case err != nil:
		return Comparison{}, err
	case !found:
		return Comparison{}, errNoSnapshot
	case saved.Schema != checkpointSchema:
		return Comparison{}, fmt.Errorf("the snapshot has schema %d, and this program makes schema %d: compare with the daemon's own program", saved.Schema, checkpointSchema)
	}
	kept := map[string][]byte{}
	for pair, err := range saved.Pairs {
		if err != nil {
			return Comparison{}, fmt.Errorf("read the snapshot of record %d: %w", saved.Sequence, err)
		}
		kept[pair.Key] = pair.Value
	}
	r := refold{Feed: newFeed(nil, Options{Logger: slog.New(slog.DiscardHandler)}), based: map[eventlog.Stream]bool{}, lost: map[eventlog.Stream]bool{}}
	r.log = log
	r.saver.begin.Store(true) // nothing is saved
	r.Sequence = saved.Sequence
	if err := r.fold(ctx); err != nil {
		return r.Comparison, err
	}
	delta, err := r.everything().delta(0)
	if err != nil {
		return r.Comparison, err
	}
	r.Pods, r.Containers = len(r.Live.Sandboxes()), len(r.Live.Containers())
	r.Difference, err = r.compare(ctx, kept, delta.Put)
	return r.Comparison, err
}

// refold is a fold from nothing.
type refold struct {
	*Feed
	Comparison
	// based are streams whose first records a base stands in for, and lost those of which that is
	// behind the snapshot.
	based, lost map[eventlog.Stream]bool
}

func (r *refold) fold(ctx context.Context) error {
	for info, err := range r.log.Streams(ctx, "") {
		if _, damaged := errors.AsType[*eventlog.DamageError](err); damaged {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the bases of streams: %w", err)
		}
		switch {
		case info.Base.Version == 0:
		case info.Base.Sequence > r.Sequence:
			r.lost[info.Stream] = true
		default:
			r.based[info.Stream] = true
			r.apply(&Change{
				Record: eventlog.Record{Stream: info.Stream, Version: info.Base.Version, Sequence: info.Base.Sequence},
				What:   r.fromBase(info.Stream, info.Base),
			})
		}
	}
	for record, err := range r.log.Read(ctx, 1) {
		if err != nil {
			if r.passedOver(err) {
				continue
			}
			return fmt.Errorf("read the log after %d: %w", r.Live.Sequence(), err)
		}
		if record.Sequence > r.Sequence {
			break
		}
		r.Records++
		if change, changes := r.folds.change(r.Live, incoming{Record: record}); changes {
			r.apply(&change)
		}
	}
	return ctx.Err()
}

// compare returns the first difference, by the snapshot's keys.
func (r *refold) compare(ctx context.Context, kept, folded map[string][]byte) (string, error) {
	var ended []string
	for _, key := range slices.Sorted(maps.Keys(kept)) {
		if strings.HasPrefix(key, keyEnded) {
			ended = append(ended, key)
		}
		if value, has := folded[key]; has && bytes.Equal(value, kept[key]) {
			delete(folded, key)
			continue
		}
		stream, err := streamOf(key, kept[key])
		if err != nil {
			return "", fmt.Errorf("the snapshot's value of %s: %w", key, err)
		}
		_, there, err := r.log.Stream(ctx, stream)
		if err != nil || !there || r.lost[stream] {
			r.Dropped++
			delete(folded, key)
			continue
		}
		value, has := folded[key]
		delete(folded, key)
		if !has {
			return fmt.Sprintf("the snapshot has %s as %s, and by its events that is not so", stream, what(key)), nil
		}
		if d := r.differs(stream, key, kept[key], value); d != "" {
			return d, nil
		}
	}
	for _, key := range slices.Sorted(maps.Keys(folded)) {
		stream, err := streamOf(key, folded[key])
		if err != nil {
			return "", err
		}
		// The history is bounded: what ended before its oldest was left out.
		before := strings.HasPrefix(key, keyEnded) && len(ended) == historyKept && key < ended[0]
		if r.lost[stream] || before {
			continue
		}
		return fmt.Sprintf("by its events %s is %s, and the snapshot has nothing of it", stream, what(key)), nil
	}
	return "", nil
}

// what is what a key says of its stream.
func what(key string) string {
	kind, _, _ := strings.Cut(key, "/")
	return kind
}

func streamOf(key string, value []byte) (eventlog.Stream, error) {
	var m interface {
		proto.Message
		GetStream() string
	}
	switch what(key) + "/" {
	case keyLive:
		m = &statepb.Entity{}
	case keyEnded:
		m = &statepb.Ended{}
	case keyDamaged:
		m = &statepb.Damaged{}
	default:
		return "", errors.New("unknown kind of key")
	}
	err := proto.Unmarshal(value, m)
	return eventlog.Stream(m.GetStream()), err
}

// differs says where two values of a stream differ; empty if they are equal.
func (r *refold) differs(stream eventlog.Stream, key string, kept, folded []byte) string {
	if bytes.Equal(kept, folded) {
		return ""
	}
	was, is := r.shown(stream, key, kept), r.shown(stream, key, folded)
	if was == is {
		return ""
	}
	at := 0
	for at < min(len(was), len(is)) && was[at] == is[at] {
		at++
	}
	near := func(s string) string { return s[max(0, min(at-40, len(s))):min(len(s), at+60)] }
	return fmt.Sprintf("%s (%s): the snapshot has …%s…, its events give …%s…", stream, what(key), near(was), near(is))
}

// shown is a value as text, without configurations. A base does not know the boot.
func (r *refold) shown(stream eventlog.Stream, key string, value []byte) string {
	if what(key)+"/" != keyLive {
		return fmt.Sprintf("%q", value)
	}
	e := &statepb.Entity{}
	if err := proto.Unmarshal(value, e); err != nil {
		return err.Error()
	}
	state := e.GetState()
	e.State = nil
	if r.based[stream] {
		e.BootId = ""
	}
	return prototext.Format(e) + stateShown(string(stream), state)
}

func stateShown(stream string, encoded []byte) string {
	kind, _, _ := strings.Cut(stream, "/")
	var state any
	var err error
	switch kind {
	case "sandbox":
		state, err = codec.DecodeSandboxState(encoded)
	case "container":
		state, err = codec.DecodeContainerState(encoded)
	case "image":
		state, err = codec.DecodeImageState(encoded)
	default:
		state, err = codec.DecodeHostState(encoded)
	}
	if err != nil {
		return err.Error()
	}
	text, err := redact.State(state)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
