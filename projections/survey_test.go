package projections

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// full returns models that have read the whole log.
func full(t fatal, log eventlog.Log, bookmark Bookmark) *Feed {
	f := newFeed(log, Options{Logger: quiet, Bookmark: bookmark})
	f.saver.begin.Store(true)
	_, err := f.takeBases(context.Background())
	f.PodEvents.resume(0)
	if err == nil {
		err = f.takeAll(log.Read(context.Background(), 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Live.reached(log.Last())
	f.PodEvents.begin(log.Last())
	return f
}

// owed describes the pod events that the first subscriber gets.
func owed(p *PodEvents) (all []string) {
	for _, e := range p.kept {
		all = append(all, fmt.Sprint(e.place, e.Turn, e.Sandbox, e.Container, e.Pod != nil, len(e.Containers)))
	}
	return all
}

// compareStarts fails if a start that reads only what lives gives other models than one that reads
// everything.
func compareStarts(t interface {
	fatal
	Fatalf(format string, args ...any)
}, log eventlog.Log, since eventlog.Sequence) {
	mark := func() Bookmark {
		if since == 0 {
			return noBookmark{}
		}
		return &bookmark{place: &Place{Sequence: since}}
	}
	want := full(t, log, mark())
	got, err := Open(context.Background(), log, Options{Logger: quiet, Bookmark: mark()})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(whole(t, want), whole(t, got)); diff != "" {
		t.Fatalf("the models differ (-everything +living):\n%s", diff)
	}
	if diff := cmp.Diff(answers(want), answers(got)); diff != "" {
		t.Fatalf("the answers differ (-everything +living):\n%s", diff)
	}
	if diff := cmp.Diff(want.Live.Past(), got.Live.Past()); diff != "" {
		t.Fatalf("the past differs (-everything +living):\n%s", diff)
	}
	if want, got := owed(want.PodEvents), owed(got.PodEvents); !slices.Equal(want, got) {
		t.Fatalf("the pod events differ:\n%q\n%q", want, got)
	}
}

// Without a checkpoint, a start reads only what lives, and finds what it would find if it had read
// everything.
func TestStartReadsWhatLives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := memlog.New(memlog.Options{})
		defer log.Close()
		n := newTown(log)
		for i := range rapid.IntRange(1, 4).Draw(t, "rounds") {
			n.walk(t, 60)
			switch rapid.IntRange(0, 3).Draw(t, "and") {
			case 0:
				lived(t, log, fmt.Sprint("p", i), fmt.Sprint("q", i))
			case 1: // A container that is removed beside its pod, which goes on.
				s, c := newSandbox(fmt.Sprint("p", i)), newContainer(fmt.Sprint("q", i))
				for _, err := range []error{
					s.do(log, runOf(fmt.Sprint("p", i), epoch)), c.do(log, createOf(fmt.Sprint("q", i), fmt.Sprint("p", i), epoch)),
					c.do(log, container.Remove{}), c.do(log, container.DeleteRuntimeDone{}), c.do(log, container.ReleaseRootfsDone{}),
				} {
					if err != nil {
						t.Fatal(err)
					}
				}
			case 2: // A pod that is gone, and whose network is not.
				s := newSandbox(fmt.Sprint("p", i))
				run := runOf(fmt.Sprint("p", i), epoch)
				run.SharedPID = false
				for _, c := range []sandbox.Command{run, sandbox.PrepareSandboxDone{}, sandbox.Remove{}, sandbox.DetachNetworkDone{Err: errBroken}, sandbox.ReleaseSandboxDone{}} {
					if err := s.do(log, c); err != nil {
						t.Fatal(err)
					}
				}
				if s.at.State.Phase != sandbox.Removed || sandbox.Ended(s.at.State) {
					t.Fatal("the pod is ", s.at.State.Phase)
				}
			}
		}
		since := rapid.Uint64Range(0, uint64(log.Last())+1).Draw(t, "since")
		compareStarts(t, log, eventlog.Sequence(since))
	})
}

// What has ended is not read.
func TestStartLeavesOutWhatHasEnded(t *testing.T) {
	log := newMemlog(t)
	for i := range 30 {
		lived(t, log, fmt.Sprint("p", i), fmt.Sprint("q", i))
	}
	s := newSandbox("alive")
	run := runOf("alive", epoch)
	for _, c := range []sandbox.Command{run, sandbox.PrepareSandboxDone{}, sandbox.AddContainer{Container: id.Container("c")}} {
		if err := s.do(log, c); err != nil {
			t.Fatal(err)
		}
	}
	counted := &counting{Log: log}
	f, err := Open(t.Context(), counted, Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.History.Ended()); n != 60 || len(f.Live.Sandboxes()) != 1 {
		t.Errorf("%d streams have ended, and %d pods live", n, len(f.Live.Sandboxes()))
	}
	var living []eventlog.Sequence
	for r := range log.ReadStream(t.Context(), s.stream, 1) {
		living = append(living, r.Sequence)
	}
	if counted.wholes > 0 || !slices.Equal(counted.last, living) {
		t.Errorf("records %v are folded, not %v, and the whole log is read %d times", counted.last, living, counted.wholes)
	}
}

// A log whose parts contradict each other is read as a whole.
func TestStartReadsEverythingIfUncertain(t *testing.T) {
	for name, lie := range map[string]func(p *eventlog.Places) error{
		"a record is missing": func(p *eventlog.Places) error {
			if p.Stream == "container/c1" {
				p.Sequences = p.Sequences[:1]
			}
			return nil
		},
		"a record is another stream's": func(p *eventlog.Places) error {
			if p.Stream == "container/c1" {
				p.Sequences = append(slices.Clone(p.Sequences[:1]), 1)
			}
			return nil
		},
		"it is damaged": func(*eventlog.Places) error { return fmt.Errorf("%w: a test", eventlog.ErrCorrupt) },
	} {
		log := newMemlog(t)
		lived(t, log, "p1", "c1")
		if err := newSandbox("alive").do(log, runOf("alive", epoch)); err != nil {
			t.Fatal(err)
		}
		counted := &counting{Log: log, lie: lie}
		f, err := Open(t.Context(), counted, Options{Logger: quiet})
		if err != nil || counted.wholes != 1 {
			t.Fatalf("%s: the whole log is read %d times: %v", name, counted.wholes, err)
		}
		if diff := cmp.Diff(whole(t, full(t, log, noBookmark{})), whole(t, f)); diff != "" {
			t.Errorf("%s (-everything +found):\n%s", name, diff)
		}
	}
}

// counting notes what is read, and may lie about where it is.
type counting struct {
	*memlog.Log
	lie    func(*eventlog.Places) error
	wholes int

	mu   sync.Mutex
	last []eventlog.Sequence // of the last ReadAt
}

func (c *counting) Read(ctx context.Context, from eventlog.Sequence) iter.Seq2[eventlog.Record, error] {
	c.wholes++
	return c.Log.Read(ctx, from)
}

func (c *counting) ReadAt(ctx context.Context, sequences []eventlog.Sequence) iter.Seq2[eventlog.Record, error] {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = sequences
	return c.Log.ReadAt(ctx, sequences)
}

func (c *counting) Places(ctx context.Context) iter.Seq2[eventlog.Places, error] {
	return func(yield func(eventlog.Places, error) bool) {
		for p, err := range c.Log.Places(ctx) {
			if err == nil && c.lie != nil {
				err = c.lie(&p)
			}
			if !yield(p, err) {
				return
			}
		}
	}
}
