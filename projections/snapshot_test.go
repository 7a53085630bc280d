package projections

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
	statepb "github.com/stele-runtime/stele/proto/state/v1"
)

// TestSnapshotIsTheFold: whatever happened, a snapshot is what a fold from nothing gives, also if
// more happened since.
func TestSnapshotIsTheFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := memlog.New(memlog.Options{})
		defer log.Close()
		n := newTown(log)
		f := opened(t, log)
		for range rapid.IntRange(1, 3).Draw(t, "rounds") {
			n.walk(t, 40)
			f = opened(t, log)
			save(t, f)
		}
		n.walk(t, 10)
		c, err := CompareSnapshot(context.Background(), log)
		if damaged := len(f.Live.damaged) > 0; err != nil || c.Difference != "" && !damaged {
			t.Fatalf("%+v, %v", c, err)
		}
		if f.Live.Sequence() != c.Sequence || c.Pods != len(f.Live.Sandboxes()) || c.Containers != len(f.Live.Containers()) || c.Dropped > 0 {
			t.Fatalf("%+v; the snapshot is of record %d and has %d pods and %d containers", c, f.Live.Sequence(), len(f.Live.Sandboxes()), len(f.Live.Containers()))
		}
	})
}

// spoiled is a log whose snapshot is not what was saved.
type spoiled struct {
	eventlog.Log
	saved eventlog.Checkpoint
	pairs map[string]string
}

func (s spoiled) LoadCheckpoint(context.Context, string) (eventlog.Saved, bool, error) {
	return eventlog.Saved{Checkpoint: s.saved, Pairs: func(yield func(eventlog.Pair, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(s.pairs)) {
			if !yield(eventlog.Pair{Key: key, Value: []byte(s.pairs[key])}, nil) {
				return
			}
		}
	}}, true, nil
}

// TestSnapshotDiffers: each way in which a snapshot can be wrong is found, and said.
func TestSnapshotDiffers(t *testing.T) {
	log := newMemlog(t)
	if _, err := CompareSnapshot(t.Context(), log); !errors.Is(err, errNoSnapshot) {
		t.Errorf("of a log without a snapshot: %v", err)
	}
	lived(t, log, "p1", "c1")
	if err := newSandbox("s1").do(log, runOf("s1", epoch)); err != nil {
		t.Fatal(err)
	}
	save(t, opened(t, log))
	at, pairs := kept(t, log)
	for says, spoil := range map[string]func(map[string]string){
		"": func(map[string]string) {},
		"by its events sandbox/s1 is live, and the snapshot has nothing of it":  func(m map[string]string) { delete(m, "live/sandbox/s1") },
		"the snapshot has sandbox/p1 as live, and by its events that is not so": func(m map[string]string) { m["live/sandbox/p1"] = renamed(t, m["live/sandbox/s1"], "sandbox/p1", "p1") },
		`sandbox/s1 (live): the snapshot has …`: func(m map[string]string) {
			m["live/sandbox/s1"] = renamed(t, m["live/sandbox/s1"], "sandbox/s1", "other")
		},
		"by its events container/c1 is ended, and the snapshot has nothing of it": func(m map[string]string) { deleteFirst(m, keyEnded) },
		"the snapshot has sandbox/s1 as damaged, and by its events that is not so": func(m map[string]string) {
			b, err := proto.Marshal(&statepb.Damaged{Stream: "sandbox/s1", Reason: "x"})
			if err != nil {
				t.Fatal(err)
			}
			m["damaged/sandbox/s1"] = string(b)
		},
	} {
		other := maps.Clone(pairs)
		spoil(other)
		c, err := CompareSnapshot(t.Context(), spoiled{log, eventlog.Checkpoint{Sequence: at, Schema: checkpointSchema}, other})
		if err != nil || !strings.HasPrefix(c.Difference, says) || says == "" && c.Difference != "" {
			t.Errorf("%q, %v, want %q", c.Difference, err, says)
		}
	}
	_, err := CompareSnapshot(t.Context(), spoiled{log, eventlog.Checkpoint{Sequence: at, Schema: 1}, pairs})
	if err == nil || !strings.Contains(err.Error(), "has schema 1") {
		t.Errorf("of another version: %v", err)
	}
	_, err = CompareSnapshot(t.Context(), spoiled{log, eventlog.Checkpoint{Sequence: at, Schema: checkpointSchema}, map[string]string{"x": "y"}})
	if err == nil || !strings.Contains(err.Error(), "unknown kind of key") {
		t.Errorf("of what is no snapshot: %v", err)
	}
}

// renamed is a sandbox's value of another stream and id.
func renamed(t *testing.T, value, stream, name string) string {
	t.Helper()
	e := &statepb.Entity{}
	if err := proto.Unmarshal([]byte(value), e); err != nil {
		t.Fatal(err)
	}
	state, err := codec.DecodeSandboxState(e.GetState())
	if err != nil {
		t.Fatal(err)
	}
	state.Name = sandbox.Name{Name: name}
	e.Stream = stream
	if e.State, err = codec.EncodeSandboxState(state); err != nil {
		t.Fatal(err)
	}
	b, err := proto.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// deleteFirst deletes the first key with a prefix.
func deleteFirst(m map[string]string, prefix string) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if strings.HasPrefix(key, prefix) {
			delete(m, key)
			return
		}
	}
}

// TestSnapshotOfWhatIsGone: what retention removed since is not compared, and that is said.
func TestSnapshotOfWhatIsGone(t *testing.T) {
	log := newMemlog(t)
	lived(t, log, "p1", "c1")
	lived(t, log, "p2", "c2")
	save(t, opened(t, log))
	for _, e := range opened(t, log).History.Ended()[:2] {
		info, _, err := log.Stream(t.Context(), e.Stream)
		if err == nil {
			err = log.Trim(t.Context(), eventlog.Trim{Stream: e.Stream, Through: info.Version, Rule: "age", Whole: true})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c, err := CompareSnapshot(t.Context(), log)
	if err != nil || c.Difference != "" || c.Dropped != 2 {
		t.Errorf("%+v, %v", c, err)
	}
}
