package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// bookmark is kept in memory, which outlives the feeds of a test.
type bookmark struct{ place *Place }

func (b *bookmark) Load() (Place, bool, error) {
	if b.place == nil {
		return Place{}, false, nil
	}
	return *b.place, true, nil
}

func (b *bookmark) Save(p Place) error { b.place = &p; return nil }
func (b *bookmark) Clear() error       { b.place = nil; return nil }

// ready returns the next events that are there, at most n.
func ready(s *Subscription, n int) (all []PodEvent, err error) {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	for len(all) < n {
		e, err := s.Next(now)
		if err != nil {
			return all, unlessNone(err)
		}
		all = append(all, e)
	}
	return all, nil
}

func unlessNone(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

const every = 1 << 30

// of names what an event is about.
func of(e PodEvent) string {
	if e.Container != "" {
		return "container/" + string(e.Container)
	}
	return "sandbox/" + string(e.Sandbox)
}

func (t Turn) String() string { return [...]string{"created", "started", "stopped", "deleted"}[t] }

// stages are the stages of all that lives.
func stages(l *Live) map[string]Stage {
	all := map[string]Stage{}
	for _, s := range l.Sandboxes() {
		all["sandbox/"+string(s.State.ID)] = s.Stage()
	}
	for _, c := range l.Containers() {
		all["container/"+string(c.State.ID)] = c.Stage()
	}
	return all
}

// Whenever the kubelet would see another stage of a life, and only then, there is an event
// with the pod as of that record. Lives go in order.
func TestPodEventsAreLives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := memlog.New(memlog.Options{})
		defer log.Close()
		newTown(log).walk(t, 300)
		f := newFeed(log, Options{Logger: quiet})
		s := f.PodEvents.Subscribe()
		lives := map[string]Turn{}
		for record, err := range log.Read(context.Background(), 1) {
			if err != nil {
				t.Fatal(err)
			}
			before := stages(f.Live)
			f.take(record)
			after := stages(f.Live)
			events, err := ready(s, every)
			if err != nil {
				t.Fatal(err)
			}
			told := map[string]Turn{}
			for _, e := range events {
				name := of(e)
				if last, lived := lives[name]; lived && e.Turn <= last || !lived && e.Turn != Created {
					t.Fatalf("%s is %s after %s", name, e.Turn, last)
				}
				if e.Turn == Deleted && lives[name] != Stopped {
					t.Fatalf("%s is deleted and was not stopped", name)
				}
				lives[name], told[name] = e.Turn, e.Turn
				asOf(t, f.Live, e)
			}
			for name := range union(before, after) {
				last, is := told[name]
				want := map[Stage]Turn{Made: Created, Active: Started, Over: Stopped, Hidden: Deleted}[after[name]]
				switch {
				case before[name] == after[name] && is && last != Started: // a start can be reported late
					t.Fatalf("%s stays what it is, and is said to be %s", name, last)
				case before[name] != after[name] && after[name] != Unclear && (!is || last != want):
					t.Fatalf("%s is %s, and is said to be %s (%t)", name, want, last, is)
				}
			}
		}
	})
}

// asOf checks that an event has its pod as the model has it now.
func asOf(t *rapid.T, l *Live, e PodEvent) {
	now := l.Sandbox(e.Sandbox)
	switch {
	case now != nil && e.Pod != now:
		t.Fatalf("%s: the pod is of another moment", of(e))
	case now == nil && e.Container == "" && (e.Pod == nil || e.Pod.State.ID != e.Sandbox || e.Pod.Stage() != Hidden):
		t.Fatalf("%s: the removed pod is %v", of(e), e.Pod)
	case !slices.Equal(e.Containers, l.ContainersOf(e.Sandbox)):
		t.Fatalf("%s: the containers are of another moment", of(e))
	}
}

func union[V any](a, b map[string]V) map[string]bool {
	all := map[string]bool{}
	for name := range a {
		all[name] = true
	}
	for name := range b {
		all[name] = true
	}
	return all
}

// A subscriber that comes back to every daemon gets every event once and in order,
// wherever the daemons are killed, or end in order.
func TestPodEventsOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := memlog.New(memlog.Options{})
		defer log.Close()
		town, mark := newTown(log), &bookmark{}
		whole := newFeed(log, Options{Logger: quiet})
		reference := whole.PodEvents.Subscribe()

		var got, want []string
		note := func(all *[]string, events []PodEvent) {
			for _, e := range events {
				*all = append(*all, fmt.Sprint(e.place, of(e), e.Turn))
			}
		}
		for life := range rapid.IntRange(1, 6).Draw(t, "lives") {
			f, err := Open(context.Background(), log, Options{Logger: quiet, Bookmark: mark})
			if err != nil {
				t.Fatal(err)
			}
			// Things happen while nobody is subscribed yet, but for the first time.
			if life > 0 {
				town.walk(t, 20)
				run(t, f, log)
			}
			s := f.PodEvents.Subscribe()
			for range rapid.IntRange(0, 4).Draw(t, "rounds") {
				town.walk(t, 20)
				run(t, f, log)
				events, err := ready(s, rapid.SampledFrom([]int{0, 1, 3, every}).Draw(t, "received"))
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range events {
					s.Delivered(e)
				}
				note(&got, events)
				if left, _ := ready(s, 1); len(left) > 0 {
					s.next--
				} else if f.Live.Sequence() > 0 && rapid.IntRange(0, 3).Draw(t, "checkpoint") == 0 {
					save(t, f)
				}
			}
			if rapid.Bool().Draw(t, "in order") {
				s.End(true)
			}
			town.walk(t, 10) // and more happens before the daemon is gone
			if rapid.Bool().Draw(t, "seen") {
				run(t, f, log)
			}
		}
		f, err := Open(context.Background(), log, Options{Logger: quiet, Bookmark: mark})
		if err != nil {
			t.Fatal(err)
		}
		events, err := ready(f.PodEvents.Subscribe(), every)
		if err != nil {
			t.Fatal(err)
		}
		note(&got, events)
		run(t, whole, log)
		events, err = ready(reference, every)
		if err != nil {
			t.Fatal(err)
		}
		note(&want, events)
		if !slices.Equal(got, want) {
			t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// run has a feed follow what is there.
func run(t *rapid.T, f *Feed, log eventlog.Reader) {
	for record, err := range log.Read(context.Background(), f.Live.Sequence()+1) {
		if err != nil {
			t.Fatal(err)
		}
		f.take(record)
	}
}

// street publishes events by hand.
type street struct {
	*PodEvents
	mark *bookmark
	at   time.Time
	last eventlog.Sequence
}

func newStreet(mark *bookmark) *street {
	s := &street{mark: mark, at: epoch}
	s.PodEvents = newPodEvents(mark, quiet, func() time.Time { return s.at })
	return s
}

// happen publishes so many events of a pod with so many bytes of configuration.
func (s *street) happen(n, bytes int) {
	pod := &Sandbox{}
	pod.State = sandbox.State{ID: "pod", Config: make([]byte, bytes)}
	for range n {
		s.last++
		s.publish(s.last, []PodEvent{{Turn: Stopped, Sandbox: "pod", Pod: pod, place: Place{Sequence: s.last}}})
	}
}

// sequences are where the next events come from.
func sequences(t *testing.T, s *Subscription, n int) (all []eventlog.Sequence) {
	t.Helper()
	events, err := ready(s, n)
	if err != nil {
		t.Error(err)
	}
	for _, e := range events {
		all = append(all, e.place.Sequence)
		s.Delivered(e)
	}
	return all
}

func expectSequences(t *testing.T, got []eventlog.Sequence, want ...eventlog.Sequence) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A subscriber that does not read is overrun, and costs neither others nor much memory.
func TestPodEventsOverrun(t *testing.T) {
	for name, c := range map[string]struct{ bytes, fit int }{
		"many":  {0, podEventsKept},
		"large": {1 << 20, podEventsBytes / (1<<20 + 2048)},
	} {
		p := newStreet(&bookmark{})
		p.begin(0)
		quick, slow := p.Subscribe(), p.Subscribe()
		p.happen(c.fit, c.bytes)
		select {
		case <-slow.Overrun():
			t.Errorf("%s: overrun by %d events", name, c.fit)
		default:
		}
		if got := sequences(t, quick, every); len(got) != c.fit {
			t.Errorf("%s: the quick one got %d events, want %d", name, len(got), c.fit)
		}
		p.happen(1, c.bytes)
		select {
		case <-slow.Overrun():
		default:
			t.Errorf("%s: not overrun by %d events", name, c.fit+1)
		}
		if _, err := slow.Next(t.Context()); !errors.As(err, new(*OverrunError)) {
			t.Errorf("%s: %v", name, err)
		}
		if p.bytes > podEventsBytes || len(p.kept) > podEventsKept {
			t.Errorf("%s: %d events of %d bytes are kept", name, len(p.kept), p.bytes)
		}
		expectSequences(t, sequences(t, quick, every), eventlog.Sequence(c.fit+1))
		slow.End(false)
		p.happen(1, c.bytes)
		expectSequences(t, sequences(t, quick, every), eventlog.Sequence(c.fit+2))
		quick.End(false)
		if p.kept != nil || p.bytes != 0 {
			t.Errorf("%s: %d bytes are kept for nobody", name, p.bytes)
		}
	}
}

// What every subscriber has is kept for nobody.
func TestPodEventsDelivered(t *testing.T) {
	p := newStreet(&bookmark{})
	p.begin(0)
	quick, slow, lost := p.Subscribe(), p.Subscribe(), p.Subscribe()
	lost.isOver = true
	kept := func(want int) {
		t.Helper()
		if len(p.kept) != want || p.bytes < 0 || want == 0 && p.bytes != 0 {
			t.Errorf("%d events of %d bytes are kept, not %d", len(p.kept), p.bytes, want)
		}
	}
	p.happen(5, 100)
	expectSequences(t, sequences(t, quick, every), 1, 2, 3, 4, 5)
	kept(5)
	expectSequences(t, sequences(t, slow, 2), 1, 2)
	kept(3)
	if _, err := ready(slow, 1); err != nil { // handed out, not delivered
		t.Error(err)
	}
	kept(3)
	slow.End(false)
	p.happen(1, 100)
	expectSequences(t, sequences(t, quick, every), 6)
	kept(0)
	p.happen(1, 100)
	expectSequences(t, sequences(t, quick, every), 7)
	kept(0)
}

// What nobody has claimed is dropped although nothing happens.
func TestPodEventsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newStreet(&bookmark{})
		p.PodEvents.now = time.Now
		p.begin(0)
		p.happen(3, 100)
		kept := func() int {
			synctest.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.kept)
		}
		time.Sleep(claimedWithin - time.Second)
		if n := kept(); n != 3 {
			t.Errorf("%d events are kept for a newcomer", n)
		}
		time.Sleep(3 * time.Second)
		if n := kept(); n != 0 {
			t.Errorf("%d events are kept for nobody", n)
		}
	})
}

// What was not delivered before the daemon's end goes to one newcomer, for some time.
func TestPodEventsOwed(t *testing.T) {
	mark := &bookmark{}
	p := newStreet(mark)
	p.begin(0)
	p.happen(3, 0)
	first, second := p.Subscribe(), p.Subscribe()
	p.happen(1, 0)
	expectSequences(t, sequences(t, second, every), 4)
	// One that goes away amid the past leaves the rest to the next.
	expectSequences(t, sequences(t, first, 2), 1, 2)
	second.End(false)
	first.End(false)
	third := p.Subscribe()
	expectSequences(t, sequences(t, third, every), 3, 4)
	// After that, who goes away misses what happens meanwhile.
	third.End(false)
	if mark.place != nil {
		t.Errorf("the bookmark is at %v", mark.place)
	}
	p.happen(1, 0)
	fourth := p.Subscribe()
	expectSequences(t, sequences(t, fourth, every))
	p.happen(2, 0)
	expectSequences(t, sequences(t, fourth, 1), 6)

	// The next daemon owes what the last one did not deliver, even if that went on.
	fourth.End(true)
	p.happen(1, 0)
	next := newStreet(mark)
	next.resume(2)
	next.last = 2
	next.happen(6, 0) // read from the log
	next.begin(8)
	expectSequences(t, sequences(t, next.Subscribe(), every), 7, 8)

	// What comes before the checkpoint is not known any more.
	mark.place = &Place{Sequence: 2}
	next = newStreet(mark)
	next.resume(5)
	next.last = 5
	next.happen(1, 0)
	next.begin(6)
	expectSequences(t, sequences(t, next.Subscribe(), every), 6)

	// A log that lost its end has other events at these places.
	mark.place = &Place{Sequence: 100}
	next = newStreet(mark)
	next.resume(0)
	next.begin(6)
	next.last = 6
	next.happen(2, 0)
	expectSequences(t, sequences(t, next.Subscribe(), every), 7, 8)

	// Nobody came.
	mark.place = &Place{Sequence: 1}
	next = newStreet(mark)
	next.begin(6)
	next.last = 6
	next.happen(1, 0)
	next.at = next.at.Add(claimedWithin + time.Second)
	next.happen(1, 0)
	if next.kept != nil || mark.place != nil {
		t.Errorf("%d events are kept for nobody, the bookmark is at %v", len(next.kept), mark.place)
	}
	expectSequences(t, sequences(t, next.Subscribe(), every))
}

// A subscriber waits for an event, and ends with its context or the feed.
func TestPodEventsNext(t *testing.T) {
	p := newStreet(&bookmark{})
	s := p.Subscribe()
	got := make(chan PodEvent)
	go func() {
		e, _ := s.Next(t.Context())
		got <- e
	}()
	p.happen(1, 0)
	if e := <-got; e.place.Sequence != 1 {
		t.Errorf("got %v", e.place)
	}
	broken := errors.New("broken")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	if _, err := s.Next(ctx); !errors.Is(err, broken) {
		t.Errorf("after the context's end: %v", err)
	}
	p.end(broken)
	if _, err := s.Next(t.Context()); !errors.Is(err, broken) {
		t.Errorf("after the feed's end: %v", err)
	}
}

// What ends from a stream that cannot be read is told, too: once, with the pod as it was
// last known.
func TestPodEventsOfClosedStreams(t *testing.T) {
	log := newMemlog(t)
	pod, box := newSandbox("s"), newContainer("c")
	do := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []sandbox.Command{runOf("s", epoch), sandbox.PrepareSandboxDone{}, sandbox.AttachNetworkDone{}, sandbox.StartHolderDone{PID: 7}, sandbox.AddContainer{Container: "c"}} {
		do(pod.do(log, c))
	}
	for _, c := range []container.Command{
		createOf("c", "s", epoch), container.PrepareRootfsDone{}, container.CreateRuntimeDone{Process: container.Process{PID: 42}},
		container.Start{}, container.StartRuntimeDone{At: epoch},
	} {
		do(box.do(log, c))
	}
	version := eventlog.Version(0)
	closed := func(stream eventlog.Stream) {
		e, err := codec.EncodeHost(host.StreamClosed{Stream: string(stream)})
		do(err)
		_, err = log.Append(t.Context(), eventlog.Append{Stream: "node", Expected: version, Entries: []eventlog.Entry{{Type: e.Type, Schema: e.Schema, Payload: e.Payload}}})
		do(err)
		version++
	}
	for stream, at := range map[eventlog.Stream]eventlog.Version{pod.stream: pod.at.Version, box.stream: box.at.Version} {
		_, err := log.Append(t.Context(), eventlog.Append{Stream: stream, Expected: at, Entries: []eventlog.Entry{{Type: "of.the.future", Schema: 1}}})
		do(err)
	}
	closed(box.stream)
	closed(pod.stream)
	closed(pod.stream)

	f := newFeed(log, Options{Logger: quiet})
	s := f.PodEvents.Subscribe()
	for r := range log.Read(t.Context(), 1) {
		f.take(r)
	}
	events, err := ready(s, every)
	do(err)
	var got []string
	for _, e := range events {
		got = append(got, of(e)+" "+e.Turn.String())
		if e.Pod == nil || e.Pod.State.ID != "s" {
			t.Errorf("%s without its pod", of(e))
		}
	}
	want := []string{
		"sandbox/s created", "sandbox/s started", "container/c created", "container/c started",
		"sandbox/s stopped", "container/c stopped", "container/c deleted", "sandbox/s deleted",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
