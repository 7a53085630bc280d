package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/cmd/stele/internal/admin"
	"github.com/stele-runtime/stele/cmd/stele/internal/history"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
	"github.com/stele-runtime/stele/projections"
	"github.com/stele-runtime/stele/projections/names"
	"github.com/stele-runtime/stele/timeline"
)

// store is the log of a daemon, which counts the records that are read in its order by calls that
// began since the count did.
type store struct {
	*memlog.Log
	count *atomic.Pointer[atomic.Int64]
}

func (s store) Stats() boltlog.Stats { return boltlog.Stats{} }

func (s store) Read(ctx context.Context, from eventlog.Sequence) iter.Seq2[eventlog.Record, error] {
	count := s.count.Load()
	return func(yield func(eventlog.Record, error) bool) {
		for r, err := range s.Log.Read(ctx, from) {
			count.Add(1)
			if !yield(r, err) {
				return
			}
		}
	}
}

// idle is a daemon's clerks that have nothing to do.
type idle struct{}

func (idle) Held() time.Duration { return 0 }
func (idle) Image(context.Context, string, image.Command, func(image.State, image.Event) (bool, error)) (image.State, error) {
	return image.State{}, nil
}

// lives appends the lives of pods web, each with two attempts of a container: all but the last
// are gone. The first has that number.
func lives(t *testing.T, log eventlog.Log, first, pods int) {
	t.Helper()
	versions := map[string]eventlog.Version{}
	add := func(stream string, e codec.Encoded, err error) {
		if err == nil {
			_, err = log.Append(t.Context(), eventlog.Append{
				Stream: eventlog.Stream(stream), Expected: versions[stream],
				Entries: []eventlog.Entry{{Type: e.Type, Schema: e.Schema, Payload: e.Payload}},
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		versions[stream]++
	}
	pod := func(s string, events ...sandbox.Event) {
		for _, e := range events {
			encoded, err := codec.EncodeSandbox(e)
			add("sandbox/"+s, encoded, err)
		}
	}
	ctr := func(c string, events ...container.Event) {
		for _, e := range events {
			encoded, err := codec.EncodeContainer(e)
			add("container/"+c, encoded, err)
		}
	}
	for n := first; n < first+pods; n++ {
		s := fmt.Sprintf("s%d", n)
		name := sandbox.Name{Namespace: "shop", Name: fmt.Sprintf("web%d", n%2), Attempt: uint32(n)}
		config, err := proto.Marshal(&runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: name.Name, Namespace: name.Namespace, Attempt: name.Attempt}})
		if err != nil {
			t.Fatal(err)
		}
		pod(s, sandbox.SandboxRequested{ID: id.Sandbox(s), Name: name, Handler: "runc", HostNetwork: true, At: time.Now()}, sandbox.SandboxPrepared{}, sandbox.SandboxReady{})
		for attempt := range 2 {
			c := fmt.Sprintf("c%d%d", n, attempt)
			pod(s, sandbox.ContainerAdded{Container: id.Container(c)})
			ctr(c, container.ContainerRequested{ID: id.Container(c), Sandbox: id.Sandbox(s), Name: container.Name{Name: "app", Attempt: uint32(attempt)}, SandboxConfig: config, At: time.Now()},
				container.RootfsPrepared{}, container.ContainerCreated{Process: container.Process{PID: 7}}, container.StartRequested{At: time.Now()}, container.ContainerStarted{At: time.Now()},
				container.ContainerExited{Exit: container.Exit{Code: n, At: time.Now()}})
			if n < first+pods-1 {
				ctr(c, container.RemoveRequested{By: container.ByCall}, container.RuntimeDeleted{}, container.RootfsReleased{}, container.ContainerRemoved{})
				pod(s, sandbox.ContainerForgotten{Container: id.Container(c)})
			}
		}
		if n < first+pods-1 {
			pod(s, sandbox.StopRequested{}, sandbox.SandboxStopped{}, sandbox.RemoveRequested{}, sandbox.SandboxReleased{}, sandbox.SandboxRemoved{})
		}
	}
}

// told is what a history says of what a name means.
func told(t *timeline.Timeline, now time.Time, name timeline.Name) string {
	var b strings.Builder
	pods, containers := t.Matches([]timeline.Name{name})
	for _, p := range pods {
		fmt.Fprintln(&b, strings.Join(t.ExplainPod(p, now), "\n"), p.Moments)
	}
	for _, c := range containers {
		fmt.Fprintln(&b, strings.Join(t.ExplainContainer(c, now), "\n"), c.Moments)
	}
	return b.String()
}

// TestAskedIsWhole: what a daemon is asked about a name, as of any moment, is what its whole log
// says, and the log is not read for it.
func TestAskedIsWhole(t *testing.T) {
	s := store{memlog.New(memlog.Options{}), &atomic.Pointer[atomic.Int64]{}}
	s.count.Store(&atomic.Int64{})
	defer s.Close()
	lives(t, s, 0, 4)
	discard := slog.New(slog.DiscardHandler)
	feed, err := projections.Open(t.Context(), s.Log, projections.Options{Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	index := names.New(s, discard)
	if err := index.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	from, _ := serving(t, admin.New(admin.Parts{Log: s, Views: feed.Live, Names: index, Actors: idle{}, Backups: &history.Backups{}}))
	var points []timeline.Point
	for r, err := range s.Log.Read(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		points = append(points, timeline.Point{Sequence: uint64(r.Sequence)}, timeline.Point{Time: r.Time})
	}
	for _, text := range []string{"web0", "shop/web1", "shop/web1@1", "s2", "c10", "shop/web1/app@1", "web9"} {
		name, err := timeline.ParseName(text)
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range points {
			if i%7 != 0 { // Time for others.
				continue
			}
			whole, now, err := from.Timeline(t.Context(), Query{Gone: true, At: at})
			if err != nil {
				t.Fatal(err)
			}
			s.count.Store(&atomic.Int64{})
			asked, then, err := from.Timeline(t.Context(), Query{Names: []timeline.Name{name}, Gone: true, At: at})
			if err != nil {
				t.Fatalf("%s at %v: %v", text, at, err)
			}
			if got, want := told(asked, then, name), told(whole, now, name); got != want || !then.Equal(now) {
				t.Errorf("%s at %v, %v is\n%s\nwant, at %v,\n%s", text, at, then, got, now, want)
			}
			// The first of the log, and the one at the point.
			if n := s.count.Load().Load(); n > 2 {
				t.Errorf("%s at %v: %d of %d records were read", text, at, n, s.Last())
			}
		}
	}
	name, _ := timeline.ParseName("web0")
	for _, at := range []timeline.Point{{Sequence: uint64(s.Last()) + 1}, {Time: time.Now().Add(-time.Hour)}} {
		_, _, err := from.Timeline(t.Context(), Query{Names: []timeline.Name{name}, At: at})
		if _, is := errors.AsType[*timeline.PointError](err); !is {
			t.Errorf("at %v: %v", at, err)
		}
	}
}

// TestEventsOf: the events of names are those of their streams; what is no pod's and no
// container's is looked for elsewhere.
func TestEventsOf(t *testing.T) {
	s := store{memlog.New(memlog.Options{}), &atomic.Pointer[atomic.Int64]{}}
	s.count.Store(&atomic.Int64{})
	defer s.Close()
	lives(t, s, 0, 3)
	discard := slog.New(slog.DiscardHandler)
	feed, err := projections.Open(t.Context(), s.Log, projections.Options{Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	from, _ := serving(t, admin.New(admin.Parts{Log: s, Views: feed.Live, Names: names.New(s, discard), Actors: idle{}, Backups: &history.Backups{}}))
	for text, want := range map[string]int{"shop/web0@0 node": 32, "c00": 10, "node": 0, "shop/web0/app": 32} {
		var got []uint64
		if known, err := from.EventsOf(t.Context(), strings.Fields(text), collect(&got, 0, nil)); !known || err != nil || len(got) != want {
			t.Errorf("%s: %t, %v, %d records, want %d", text, known, err, len(got), want)
		}
	}
	for _, text := range []string{"nobody", "image/lab.test/x:1/y", "shop/web0 nobody"} {
		if known, err := from.EventsOf(t.Context(), strings.Fields(text), collect(new([]uint64), 0, nil)); known || err != nil {
			t.Errorf("%s is known: %t, %v", text, known, err)
		}
	}
}
