package projections

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
	statepb "github.com/stele-runtime/stele/proto/state/v1"
)

// kept returns the log's checkpoint.
func kept(t fatal, log eventlog.Reader) (at eventlog.Sequence, pairs map[string]string) {
	saved, found, err := log.LoadCheckpoint(context.Background(), checkpointName)
	if err != nil || !found {
		t.Fatal("no checkpoint: ", err)
	}
	pairs = map[string]string{}
	for pair, err := range saved.Pairs {
		if err != nil {
			t.Fatal(err)
		}
		pairs[pair.Key] = string(pair.Value)
	}
	return saved.Sequence, pairs
}

// whole returns what a whole checkpoint of the models would have.
func whole(t fatal, f *Feed) map[string]string {
	delta, err := f.everything().delta(0)
	if err != nil {
		t.Fatal(err)
	}
	pairs := map[string]string{}
	for key, b := range delta.Put {
		pairs[key] = string(b)
	}
	return pairs
}

// Deltas add up to a whole checkpoint, even if some could not be saved at first, or the
// feed was opened again in between.
func TestDeltasMakeTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := memlog.New(memlog.Options{})
		defer log.Close()
		n := newTown(log)
		f := opened(t, log)
		for range rapid.IntRange(1, 5).Draw(t, "rounds") {
			n.walk(t, 30)
			for r := range log.Read(context.Background(), f.Live.Sequence()+1) {
				f.take(r)
			}
			switch rapid.SampledFrom([]string{"save", "save", "fail", "lose", "open"}).Draw(t, "then") {
			case "open":
				f = opened(t, log)
				continue
			case "fail":
				log.Fail(errBroken)
				f.checkpoint()
				if err := f.saver.save(context.Background(), <-f.saver.drafts); !errors.Is(err, eventlog.ErrUnavailable) {
					t.Fatal(err)
				}
				log.Fail(nil)
				continue
			case "lose": // somebody else saves, so that the saver's next delta is stale
				if f.saver.saved == log.Last() {
					continue
				}
				other := eventlog.Delta{Checkpoint: eventlog.Checkpoint{Sequence: log.Last()}, Replace: true, Put: map[string][]byte{"live/x": nil}}
				if err := log.SaveCheckpoint(context.Background(), checkpointName, other); err != nil {
					t.Fatal(err)
				}
				f.checkpoint()
				// Stale, unless it was whole.
				_ = f.saver.save(context.Background(), <-f.saver.drafts)
			case "save":
			}
			save(t, f)
			at, pairs := kept(t, log)
			if diff := cmp.Diff(whole(t, f), pairs); at != f.Live.Sequence() || diff != "" {
				t.Fatalf("the checkpoint of record %d, at %d (-whole +kept):\n%s", at, f.Live.Sequence(), diff)
			}
		}
	})
}

// Saving a checkpoint costs what has changed since the last one.
func TestCheckpointSaysWhatChanged(t *testing.T) {
	log := newMemlog(t)
	for i := range 20 {
		lived(t, log, fmt.Sprint("p", i), fmt.Sprint("c", i))
	}
	a, b := newSandbox("a"), newSandbox("b")
	for _, s := range []*sandboxActor{a, b} {
		if err := s.do(log, runOf(strings.TrimPrefix(string(s.stream), "sandbox/"), epoch)); err != nil {
			t.Fatal(err)
		}
	}
	f := opened(t, log)
	save(t, f)
	if err := a.do(log, sandbox.PrepareSandboxDone{}); err != nil {
		t.Fatal(err)
	}
	lived(t, log, "late", "last")
	for r := range log.Read(t.Context(), f.Live.Sequence()+1) {
		f.take(r)
	}
	var changed []string
	for _, key := range slices.Sorted(maps.Keys(f.draft.pairs)) {
		if !strings.HasPrefix(key, keyEnded) {
			changed = append(changed, key)
		}
	}
	if want := []string{"live/container/last", "live/sandbox/a", "live/sandbox/late"}; !slices.Equal(changed, want) || len(f.draft.pairs) != 5 {
		t.Errorf("%v of %d, want %v", changed, len(f.draft.pairs), want)
	}
	if f.draft.pairs["live/sandbox/a"] == nil || f.draft.pairs["live/sandbox/late"] != nil {
		t.Error("what lives goes away, or what ended is kept")
	}
}

// What the history drops is deleted from the checkpoint.
func TestCheckpointForgets(t *testing.T) {
	log := newMemlog(t)
	f := opened(t, log)
	save(t, f)
	for i := range historyKept {
		f.History.add(Ended{Sequence: eventlog.Sequence(1_000_000 + i)})
	}
	lived(t, log, "p", "c")
	for r := range log.Read(t.Context(), 1) {
		f.take(r)
	}
	gone := 0
	for _, v := range f.draft.pairs {
		if v == nil {
			gone++
		}
	}
	if _, known := f.draft.pairs[endedKey(Ended{Sequence: 1_000_000})]; !known || gone != 4 { // two entities, and two that were remembered
		t.Errorf("%d values go away", gone)
	}
}

// An unusable checkpoint is ignored, and replaced.
func TestUnusableCheckpoint(t *testing.T) {
	entity := func(e *statepb.Entity) string {
		b, err := proto.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	state, err := proto.Marshal(&statepb.SandboxState{Id: "s", Config: []byte{0xff}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		schema uint32
		key    string
		value  string
	}{
		"other schema":      {checkpointSchema + 1, "live/sandbox/s", ""},
		"unknown key":       {checkpointSchema, "dead/sandbox/s", ""},
		"no entity":         {checkpointSchema, "live/sandbox/s", "\xff"},
		"no ended":          {checkpointSchema, "ended/1", "\xff"},
		"no damaged":        {checkpointSchema, "damaged/s", "\xff"},
		"of no kind":        {checkpointSchema, "live/pod/s", entity(&statepb.Entity{Stream: "pod/s"})},
		"no state":          {checkpointSchema, "live/sandbox/s", entity(&statepb.Entity{Stream: "sandbox/s", State: []byte{0xff}})},
		"no configuration":  {checkpointSchema, "live/sandbox/s", entity(&statepb.Entity{Stream: "sandbox/s", State: state})},
		"no container":      {checkpointSchema, "live/container/s", entity(&statepb.Entity{Stream: "container/s", State: []byte{0xff}})},
		"no image":          {checkpointSchema, "live/image/s", entity(&statepb.Entity{Stream: "image/s", State: []byte{0xff}})},
		"nothing of a node": {checkpointSchema, "live/node", entity(&statepb.Entity{Stream: "node", State: []byte{0xff}})},
	} {
		t.Run(name, func(t *testing.T) {
			log := newMemlog(t)
			if err := newSandbox("s").do(log, runOf("s", epoch)); err != nil {
				t.Fatal(err)
			}
			d := eventlog.Delta{
				Checkpoint: eventlog.Checkpoint{Sequence: log.Last(), Schema: c.schema},
				Put:        map[string][]byte{c.key: []byte(c.value)},
			}
			if err := log.SaveCheckpoint(t.Context(), checkpointName, d); err != nil {
				t.Fatal(err)
			}
			f := opened(t, log)
			if s := f.Live.Sandbox("s"); s == nil || s.State.Phase != sandbox.Creating || s.Config().GetHostname() == "" {
				t.Errorf("the sandbox is %+v", s)
			}
			log.Fail(errBroken) // at first
			f.checkpoint()
			if err := f.saver.save(t.Context(), <-f.saver.drafts); !errors.Is(err, eventlog.ErrUnavailable) {
				t.Fatal(err)
			}
			log.Fail(nil)
			save(t, f)
			if _, pairs := kept(t, log); !maps.Equal(pairs, whole(t, f)) {
				t.Errorf("it was not replaced: %q", slices.Sorted(maps.Keys(pairs)))
			}
		})
	}
}

// A checkpoint that is ahead of the log, whose end a power failure took, is ignored.
func TestCheckpointAheadOfTheLog(t *testing.T) {
	log := newMemlog(t)
	a := newSandbox("a")
	if err := a.do(log, runOf("a", epoch)); err != nil {
		t.Fatal(err)
	}
	save(t, opened(t, log))
	if f := opened(t, shorter{newMemlog(t), log}); f.Live.Sandbox("a") != nil || f.Live.Sequence() != 0 {
		t.Error("a checkpoint is used that knows more than the log")
	}
}

// shorter is a log with the checkpoint of a longer one.
type shorter struct {
	*memlog.Log
	longer *memlog.Log
}

func (s shorter) LoadCheckpoint(ctx context.Context, name string) (eventlog.Saved, bool, error) {
	return s.longer.LoadCheckpoint(ctx, name)
}

// While it runs, the feed saves checkpoints, so that a start reads little.
func TestCheckpointsWhileRunning(t *testing.T) {
	log := newMemlog(t)
	f := opened(t, log)
	running(t, f)
	for round := range 2 {
		for i := range checkpointEvery {
			name := fmt.Sprint(round, "-", i)
			if err := newSandbox(name).do(log, runOf(name, epoch)); err != nil {
				t.Fatal(err)
			}
		}
		// It is saved beside the feed.
		await(t, func() bool {
			saved, found, err := log.LoadCheckpoint(t.Context(), checkpointName)
			return err == nil && found && log.Last()-saved.Sequence < checkpointEvery
		})
		at, pairs := kept(t, log)
		if got, want := len(opened(t, log).Live.Sandboxes()), int(log.Last()); got != want || len(pairs) != int(at)+1 {
			t.Errorf("%d sandboxes after the restart, not %d; %d are kept at %d", got, want, len(pairs), at)
		}
	}
}

// A checkpoint can be asked for, too.
func TestCheckpointOnDemand(t *testing.T) {
	log := newMemlog(t)
	f := opened(t, log)
	running(t, f)
	for _, name := range []string{"a", "b"} {
		if err := newSandbox(name).do(log, runOf(name, epoch)); err != nil {
			t.Fatal(err)
		}
		if err := f.Await(t.Context(), log.Last()); err != nil {
			t.Fatal(err)
		}
		await(t, func() bool {
			f.Save()
			saved, found, err := f.Saved(t.Context())
			return err == nil && found && saved == log.Last()
		})
	}
	if at, pairs := kept(t, log); at != log.Last() || len(pairs) != 3 {
		t.Errorf("kept at %d: %q", at, pairs)
	}
}

// stuck is a log whose saves never return.
type stuck struct {
	*memlog.Log
	taken chan eventlog.Delta
}

func (s stuck) SaveCheckpoint(ctx context.Context, _ string, d eventlog.Delta) error {
	s.taken <- d
	<-ctx.Done()
	return ctx.Err()
}

// A slow checkpoint holds up nobody.
func TestSlowCheckpoint(t *testing.T) {
	log := stuck{newMemlog(t), make(chan eventlog.Delta, 1)}
	f := opened(t, log)
	running(t, f)
	for i := range 2*checkpointEvery + 10 {
		name := fmt.Sprint(i)
		if err := newSandbox(name).do(log, runOf(name, epoch)); err != nil {
			t.Fatal(err)
		}
	}
	if d := <-log.taken; !d.Replace || d.Sequence != checkpointEvery {
		t.Errorf("the first checkpoint is of record %d", d.Sequence)
	}
	if err := f.Await(t.Context(), log.Last()); err != nil {
		t.Error(err)
	}
}

// A stream's name may be as long as a key.
func TestLongNames(t *testing.T) {
	log := newMemlog(t)
	long := eventlog.Stream("pod/" + strings.Repeat("x", eventlog.MaxName-4))
	if _, err := log.Append(t.Context(), eventlog.Append{Stream: long, Entries: []eventlog.Entry{{Type: "x", Schema: 1}}}); err != nil {
		t.Fatal(err)
	}
	save(t, opened(t, log))
	if f := opened(t, log); f.Live.Damaged()[long] == "" || f.Live.Sequence() != log.Last() {
		t.Errorf("damaged: %v", f.Live.Damaged())
	}
	if at, pairs := kept(t, log); at != 1 || len(pairs) != 2 {
		t.Errorf("kept at %d: %q", at, pairs)
	}
}
