package projections

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
	statepb "github.com/stele-runtime/stele/proto/state/v1"
)

// cut leaves a base at the end of an actor's stream.
func cut[S, C, E any](t fatal, log eventlog.Log, a *actor[S, C, E], encode func(S) ([]byte, error)) {
	info, _, err := log.Stream(context.Background(), a.stream)
	if err != nil {
		t.Fatal(err)
	}
	if a.at.Version <= info.Base.Version || a.ended(a.at.State) {
		return
	}
	state, err := encode(a.at.State)
	if err == nil {
		err = log.Trim(context.Background(), eventlog.Trim{Rule: "age", Stream: a.stream, Through: a.at.Version, Schema: codec.StateSchema, State: state})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A model that was built from bases is the one that was built from the records before they
// were trimmed, with a checkpoint and without, and follows the log further.
func TestModelsFromBases(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := memlog.New(memlog.Options{})
		defer log.Close()
		n := newTown(log)
		for range rapid.IntRange(1, 4).Draw(t, "rounds") {
			n.walk(t, 20)
			f := opened(t, log)
			if rapid.Bool().Draw(t, "saved") {
				save(t, f)
			}
			n.walk(t, 20)
			before := opened(t, log)
			cut(t, log, n.host, codec.EncodeHostState)
			for i := range 3 {
				cut(t, log, n.sandboxes[i], codec.EncodeSandboxState)
				cut(t, log, n.containers[i], codec.EncodeContainerState)
				cut(t, log, n.images[i], codec.EncodeImageState)
			}
			after := opened(t, log)
			if len(after.Live.Damaged()) > 0 {
				t.Fatal("put aside: ", after.Live.Damaged())
			}
			if diff := cmp.Diff(withoutBoots(t, before), withoutBoots(t, after)); diff != "" {
				t.Fatal(diff)
			}
			if log.Last() > 0 {
				save(t, after)
				if diff := cmp.Diff(withoutBoots(t, after), withoutBoots(t, opened(t, log))); diff != "" {
					t.Fatal("with the next checkpoint: ", diff)
				}
			}
			if after.Live.Sequence() != log.Last() {
				t.Fatalf("the models are at %d of %d", after.Live.Sequence(), log.Last())
			}
		}
	})
}

// A stream in a file begins at its base after a restart, and goes on.
func TestBaseInFile(t *testing.T) {
	o := boltlog.Options{Path: filepath.Join(t.TempDir(), "events.db"), BootID: "b"}
	log, err := boltlog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	i := newImage("i")
	pulled(t, log, i, "p")
	cut(t, log, i, codec.EncodeImageState) // nothing is left of it
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if log, err = boltlog.Open(o); err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	f := opened(t, log)
	at, known := f.Image(t.Context(), i.stream)
	if !known || at.Version != i.at.Version || at.Sequence != i.at.Sequence {
		t.Errorf("it begins at %+v and ends at %+v", at, i.at)
	}
	pulled(t, log, i, "q")
	if f = opened(t, log); len(f.Live.Damaged()) > 0 {
		t.Error("put aside: ", f.Live.Damaged())
	}
}

// A base that is none puts its stream aside, also if no record follows it.
func TestUnreadableBase(t *testing.T) {
	for name, trim := range map[string]eventlog.Trim{
		"of another schema": {Schema: codec.StateSchema + 1, State: []byte("x")},
		"of garbage":        {Schema: codec.StateSchema, State: []byte("x")},
	} {
		t.Run(name, func(t *testing.T) {
			log := memlog.New(memlog.Options{})
			defer log.Close()
			i := newImage("i")
			pulled(t, log, i, "p")
			trim.Stream, trim.Through, trim.Rule = i.stream, i.at.Version, "age"
			if err := log.Trim(t.Context(), trim); err != nil {
				t.Fatal(err)
			}
			if f := opened(t, log); f.Live.Damaged()[i.stream] == "" {
				t.Error("it is not put aside")
			}
		})
	}
}

// withoutBoots is a whole checkpoint without the boots of its states: a base has none.
func withoutBoots(t fatal, f *Feed) map[string]string {
	pairs := whole(t, f)
	for key, b := range pairs {
		if !strings.HasPrefix(key, keyLive) {
			continue
		}
		e := &statepb.Entity{}
		if err := proto.Unmarshal([]byte(b), e); err != nil {
			t.Fatal(err)
		}
		e.BootId = ""
		without, err := proto.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		pairs[key] = string(without)
	}
	return pairs
}
