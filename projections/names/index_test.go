package names

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// shelf is a log that a test fills.
type shelf struct {
	*memlog.Log
	t testing.TB
	// from is where it was read from last.
	from eventlog.Sequence
	// spoil is asked before the index is loaded or saved.
	spoil func(saves bool) error
}

func newShelf(t testing.TB) *shelf {
	s := &shelf{Log: memlog.New(memlog.Options{}), t: t, spoil: func(bool) error { return nil }}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (s *shelf) Read(ctx context.Context, from eventlog.Sequence) iter.Seq2[eventlog.Record, error] {
	s.from = from
	return s.Log.Read(ctx, from)
}

func (s *shelf) SaveCheckpoint(ctx context.Context, name string, d eventlog.Delta) error {
	if err := s.spoil(true); err != nil {
		return err
	}
	return s.Log.SaveCheckpoint(ctx, name, d)
}

func (s *shelf) LoadCheckpoint(ctx context.Context, name string) (eventlog.Saved, bool, error) {
	saved, found, err := s.Log.LoadCheckpoint(ctx, name)
	if err == nil {
		err = s.spoil(false)
	}
	return saved, found, err
}

func (s *shelf) append(stream string, version eventlog.Version, e codec.Encoded, err error) {
	s.t.Helper()
	if err == nil {
		_, err = s.Append(s.t.Context(), eventlog.Append{
			Stream: eventlog.Stream(stream), Expected: version, Entries: []eventlog.Entry{{Type: e.Type, Schema: e.Schema, Payload: e.Payload}},
		})
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// pod adds a pod with a container, of three records.
func (s *shelf) pod(n int) {
	s.t.Helper()
	name := sandbox.Name{Name: fmt.Sprintf("web-%d", n), Namespace: "shop", UID: "u", Attempt: 1}
	config, err := proto.Marshal(&runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: name.Name, Namespace: name.Namespace, Uid: name.UID, Attempt: name.Attempt},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	e, err := codec.EncodeSandbox(sandbox.SandboxRequested{ID: id.Sandbox(fmt.Sprintf("s%d", n)), Name: name})
	s.append(fmt.Sprintf("sandbox/s%d", n), 0, e, err)
	e, err = codec.EncodeContainer(container.ContainerRequested{
		ID: id.Container(fmt.Sprintf("c%d", n)), Sandbox: id.Sandbox(fmt.Sprintf("s%d", n)), Name: container.Name{Name: "app", Attempt: 2}, SandboxConfig: config,
	})
	s.append(fmt.Sprintf("container/c%d", n), 0, e, err)
	e, err = codec.EncodeContainer(container.RootfsPrepared{})
	s.append(fmt.Sprintf("container/c%d", n), 1, e, err)
}

// find returns the streams of a pod's name.
func find(t testing.TB, x *Index, pod string) string {
	t.Helper()
	found, err := x.Find(t.Context(), pod, func(n Named) bool { return n.Pod.Name == pod && n.Pod.Namespace == "shop" })
	if err != nil {
		t.Fatal(err)
	}
	var streams []string
	for _, n := range found {
		streams = append(streams, string(n.Stream))
	}
	return strings.Join(streams, " ")
}

func index(log eventlog.Log) *Index { return New(log, slog.New(slog.DiscardHandler)) }

// What the index has is what a search of the log finds, and only what is behind it is read.
func TestIndexIsTheLog(t *testing.T) {
	s := newShelf(t)
	for n := range 20 {
		s.pod(n)
	}
	all := func(Named) bool { return true }
	want, err := index(s).Find(t.Context(), "", all)
	if err != nil || len(want) != 40 || s.from != 1 {
		t.Fatalf("%d are found, read from %d: %v", len(want), s.from, err)
	}
	if n := want[1]; n.Stream != "container/c0" || n.Sandbox != "s0" || n.Container != "c0" || n.Name != (container.Name{Name: "app", Attempt: 2}) ||
		n.Pod != (sandbox.Name{Name: "web-0", Namespace: "shop", UID: "u", Attempt: 1}) || n.Sequence != 2 || n.At.IsZero() {
		t.Errorf("a container is %+v", n)
	}
	for range 2 { // The second time it goes on with what another daemon saved.
		x := index(s)
		if err := x.Follow(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := x.Find(t.Context(), "", all)
		if err != nil || s.from != s.Last()+1 || !reflect.DeepEqual(got, want) {
			t.Errorf("with an index, read from %d: %v\n%+v\nwant\n%+v", s.from, err, got, want)
		}
		n := len(want) / 2
		s.pod(n)
		got, err = x.Find(t.Context(), "", all)
		if err != nil || len(got) != len(want)+2 {
			t.Errorf("%d are found with a newer one, not %d: %v", len(got), len(want)+2, err)
		}
		want = got
		if got := find(t, x, "web-1"); got != "sandbox/s1 container/c1" {
			t.Errorf("web-1 is %s", got)
		}
	}
}

// An index that is missing, damaged, of another schema, or that cannot be saved costs time, and
// nothing else; it is made anew.
func TestUnusableIndex(t *testing.T) {
	for name, spoil := range map[string]func(s *shelf){
		"damaged": func(s *shelf) {
			s.spoil = func(bool) error { return eventlog.ErrCorrupt }
		},
		"not saved": func(s *shelf) {
			s.spoil = func(saves bool) error {
				if saves {
					return eventlog.ErrOutcomeUnknown
				}
				return nil
			}
		},
		"another daemon's": func(s *shelf) {
			s.pod(8)
			if err := index(s).Follow(s.t.Context()); err != nil {
				s.t.Error(err)
			}
		},
		"another schema": func(s *shelf) {
			err := s.Log.SaveCheckpoint(s.t.Context(), checkpointName, eventlog.Delta{
				Checkpoint: eventlog.Checkpoint{Sequence: s.Last(), Schema: schema + 1}, Replace: true, Put: map[string][]byte{"x": []byte("y")},
			})
			if err != nil {
				s.t.Error(err)
			}
		},
		"a value that is none": func(s *shelf) {
			err := s.Log.SaveCheckpoint(s.t.Context(), checkpointName, eventlog.Delta{
				Checkpoint: eventlog.Checkpoint{Sequence: s.Last(), Schema: schema}, Replace: true, Put: map[string][]byte{key(1): []byte("\xff web-7 web-9")},
			})
			if err != nil {
				s.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			s.pod(7)
			x := index(s)
			if err := x.Follow(t.Context()); err != nil {
				t.Fatal(err)
			}
			spoil(s)
			if strings.HasPrefix(name, "another") {
				x = index(s)
			}
			if got := find(t, x, "web-7"); got != "sandbox/s7 container/c7" {
				t.Errorf("web-7 is %q", got)
			}
			s.pod(9)
			_ = x.Follow(t.Context()) // It may fail; the next one mends it.
			if got := find(t, x, "web-9"); got != "sandbox/s9 container/c9" {
				t.Errorf("web-9 is %q", got)
			}
			s.spoil = func(bool) error { return nil }
			for range 2 {
				_ = x.Follow(t.Context())
			}
			if got := find(t, x, "web-7"); got != "sandbox/s7 container/c7" || s.from != s.Last()+1 {
				t.Errorf("afterwards web-7 is %q, read from %d", got, s.from)
			}
		})
	}
}

// A search that meets a saving begins anew; a log that cannot be read is an error, and so is a
// context that ends.
func TestFindFails(t *testing.T) {
	s := newShelf(t)
	s.pod(1)
	x := index(s)
	if err := x.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	stale := 2
	s.spoil = func(bool) error {
		if stale--; stale >= 0 {
			return eventlog.ErrStale
		}
		return nil
	}
	if got := find(t, x, "web-1"); got != "sandbox/s1 container/c1" {
		t.Errorf("web-1 is %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Find(ctx, "", func(Named) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("given up with %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Find(t.Context(), "", func(Named) bool { return true }); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("of a closed log: %v", err)
	}
}

// What was removed from the log leaves the index, but for the newest, of which it is still known
// that they were there.
func TestTidy(t *testing.T) {
	s := newShelf(t)
	const pods = goneKept/2 + 10
	for n := range pods {
		s.pod(n)
	}
	x := index(s)
	if err := x.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := range pods - 1 {
		for stream, version := range map[string]eventlog.Version{fmt.Sprintf("container/c%d", n): 2, fmt.Sprintf("sandbox/s%d", n): 1} {
			if err := s.Trim(t.Context(), eventlog.Trim{Stream: eventlog.Stream(stream), Through: version, Rule: "age", Whole: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := x.tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	found, err := x.Find(t.Context(), "", func(Named) bool { return true })
	if err != nil || len(found) != goneKept+2 {
		t.Errorf("%d are left, want %d and those that are there: %v", len(found), goneKept, err)
	}
	if got := find(t, x, fmt.Sprintf("web-%d", pods-1)); got != fmt.Sprintf("sandbox/s%[1]d container/c%[1]d", pods-1) {
		t.Errorf("one that is there is %q", got)
	}
	if got := find(t, x, "web-0"); got != "" {
		t.Errorf("the oldest is still known, as %q", got)
	}
	if got := find(t, x, fmt.Sprintf("web-%d", pods-2)); got == "" {
		t.Error("one that was removed lately is forgotten")
	}
}

// Whatever is in a request can be saved and found.
func TestHostileNames(t *testing.T) {
	s := newShelf(t)
	e, err := codec.EncodeSandbox(sandbox.SandboxRequested{ID: "s1", Name: sandbox.Name{Name: "a\xffb", Namespace: strings.Repeat("x", 1<<16)}})
	s.append("sandbox/s1", 0, e, err)
	e, err = codec.EncodeContainer(container.ContainerRequested{ID: "c1", Sandbox: "s1", SandboxConfig: []byte("\xff\xff")})
	s.append("container/c1", 0, e, err)
	s.append("container/c2", 0, codec.Encoded{Type: "container.ContainerRequested.v1", Schema: 1, Payload: []byte("\xff")}, nil)
	s.append("sandbox/s3", 0, codec.Encoded{Type: "sandbox.SandboxRequested.v99", Schema: 1}, nil)
	x := New(s, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err := x.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	found, err := x.Find(t.Context(), "", func(Named) bool { return true })
	if err != nil || len(found) != 2 || found[0].Stream != "sandbox/s1" || found[1].Pod.Name != "" {
		t.Errorf("%v, %v", found, err)
	}
}
