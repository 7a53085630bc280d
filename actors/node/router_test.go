package node

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/eventlog"
)

// boards is a stage that runs nothing: it records what was done.
type boards struct {
	spawned, stopped []string
	sent             []any
}

func (b *boards) Spawn(name string, _ entity.Actor) (Ref, error) {
	b.spawned = append(b.spawned, name)
	return name, nil
}

func (b *boards) Send(_ Ref, message any) { b.sent = append(b.sent, message) }
func (b *boards) Stop(ref Ref)            { b.stopped = append(b.stopped, ref.(string)) }

func newBoards() (*boards, *Router) {
	b := &boards{}
	return b, NewRouter(slog.New(slog.DiscardHandler), b)
}

var noActor = &maker{
	first: func(uint64) entity.Actor { return nil },
	anew:  func(uint64) entity.Actor { return nil },
	kind:  &kind{wake: func(eventlog.Stream, uint64) entity.Actor { return nil }},
}

// A container whose sandbox is stopped before its creation arrives never comes to be,
// once; a message that creates nothing is not there to be barred.
func TestBarred(t *testing.T) {
	b, r := newBoards()
	var refused error
	deliverOne := func(d deliver) error {
		refused = nil
		d.stream, d.refuse = "container/c", func(err error) { refused = err }
		r.Receive(&d)
		return refused
	}
	if err := deliverOne(deliver{message: "stop", barFor: "sandbox/s"}); fault.KindOf(err) != fault.NotFound {
		t.Errorf("stopping what is not there gave %v", err)
	}
	if err := deliverOne(deliver{message: "create", creates: true, spawn: noActor}); fault.KindOf(err) != fault.Precondition {
		t.Errorf("creating what is barred gave %v", err)
	}
	if err := deliverOne(deliver{message: "create", creates: true, spawn: noActor}); err != nil || len(b.spawned) != 1 {
		t.Errorf("the bar holds for ever: %v", err)
	}
}

// A creation that is refused frees its name before its caller gets the refusal, and before
// the callers that joined it.
func TestRefusedFreesItsName(t *testing.T) {
	_, r := newBoards()
	owner := func(stream eventlog.Stream) (owner eventlog.Stream) {
		r.Receive(&claim{name: "web", stream: stream, owner: func(o eventlog.Stream) { owner = o }})
		return owner
	}
	if got := owner("container/c"); got != "container/c" {
		t.Fatalf("the name belongs to %q", got)
	}
	joined := false
	r.Receive(&deliver{stream: "container/c", joins: true, refuse: func(error) { joined = true }})
	r.Receive(&deliver{stream: "container/c", barFor: "sandbox/s", refuse: func(error) {}})
	var free eventlog.Stream
	r.Receive(&deliver{stream: "container/c", creates: true, spawn: noActor, refuse: func(error) {
		if !joined {
			t.Error("those who wait to join are not answered")
		}
		free = owner("container/d")
	}})
	if free != "container/d" {
		t.Errorf("the caller learned of the refusal while the name belonged to %q", free)
	}
}

// An actor that has nothing left to do is stopped, unless a message is on its way to it
// or it was replaced since.
func TestRetire(t *testing.T) {
	b, r := newBoards()
	send := func() { r.Receive(&deliver{stream: "s", message: "m", spawn: noActor, refuse: func(error) {}}) }
	send()
	send()
	r.Receive(&ended{stream: "s", generation: 1, handled: 1})
	if len(b.stopped) != 0 {
		t.Error("stopped with a message on its way")
	}
	r.Receive(&ended{stream: "s", generation: 1, handled: 2})
	if !slices.Equal(b.stopped, []string{"s@1"}) {
		t.Errorf("stopped: %v", b.stopped)
	}
	send()
	r.Receive(&ended{stream: "s", generation: 1, handled: 1})
	if len(b.stopped) != 1 || !slices.Equal(b.spawned, []string{"s@1", "s@2"}) {
		t.Errorf("spawned %v, stopped %v", b.spawned, b.stopped)
	}
}

// A failed actor is replaced at once: a message to its entity must not be answered as to one
// that does not exist.
func TestFailedActorIsReplaced(t *testing.T) {
	b, r := newBoards()
	r.Receive(&deliver{stream: "s", message: "m", spawn: noActor, refuse: func(error) {}})
	r.Receive(&lost{"s@1"})
	refused := false
	r.Receive(&deliver{stream: "s", message: "stop", refuse: func(error) { refused = true }})
	if refused || !slices.Equal(b.spawned, []string{"s@1", "s@2"}) || len(b.sent) != 2 {
		t.Errorf("refused %t, spawned %v, sent %v", refused, b.spawned, b.sent)
	}
	// The successor counts its own messages.
	r.Receive(&ended{stream: "s", generation: 2, handled: 1})
	if !slices.Equal(b.stopped, []string{"s@2"}) {
		t.Errorf("stopped: %v", b.stopped)
	}
}

// Entities are not asked all at once whether they are at rest, and each is asked once.
func TestDozeInParts(t *testing.T) {
	b, r := newBoards()
	const all = 2*dozeAtOnce + 1
	for i := range all {
		r.Receive(&deliver{stream: eventlog.Stream(fmt.Sprintf("container/%d", i)), message: "one", spawn: noActor, refuse: func(err error) { t.Error(err) }})
	}
	r.Receive(doze{})
	b.sent = nil
	var waiting []doze
	waiting = append(waiting, doze{pause: func(rest doze) { waiting = append(waiting, rest) }})
	for len(waiting) > 0 {
		next, asked := waiting[0], len(b.sent)
		waiting = waiting[1:]
		if r.Receive(next); len(b.sent)-asked > dozeAtOnce {
			t.Errorf("%d are asked at once", len(b.sent)-asked)
		}
	}
	if len(b.sent) != all {
		t.Errorf("%d are asked, not %d", len(b.sent), all)
	}
}

// The actor of an entity goes once it says that it is at rest, if no message is on its way to
// it. The next message makes another one.
func TestSleep(t *testing.T) {
	b, r := newBoards()
	refuse := func(err error) { t.Errorf("refused: %v", err) }
	say := func(what string) {
		r.Receive(&deliver{stream: "container/c", message: what, spawn: noActor, refuse: refuse})
	}
	say("one")
	r.Receive(doze{})
	if len(b.sent) != 1 {
		t.Fatalf("who has just got a message is asked: %v", b.sent)
	}
	r.Receive(doze{})
	if len(b.sent) != 2 || b.sent[1] != (entity.Doze{}) {
		t.Fatalf("who is at rest is not asked: %v", b.sent)
	}
	say("two")
	r.Receive(&dozes{"container/c", 1, 1}) // it has not got that yet
	r.Receive(&dozes{"container/c", 0, 2}) // of an earlier actor
	if len(b.stopped) != 0 {
		t.Fatalf("%v is stopped with a message on its way", b.stopped)
	}
	r.Receive(&dozes{"container/c", 1, 2})
	r.Receive(&dozes{"container/c", 1, 2})
	if !slices.Equal(b.stopped, []string{"container/c@1"}) || r.find([]eventlog.Stream{"container/c"}) == "" {
		t.Fatalf("stopped: %v", b.stopped)
	}
	r.Receive(doze{})
	r.Receive(&lost{"container/c@1"})
	if len(b.spawned) != 1 {
		t.Fatalf("it is awake without a message: %v", b.spawned)
	}
	say("three")
	if !slices.Equal(b.spawned, []string{"container/c@1", "container/c@2"}) || b.sent[len(b.sent)-1] != "three" {
		t.Errorf("spawned: %v, sent: %v", b.spawned, b.sent)
	}
	r.Receive(&dozes{"container/c", 2, 1})
	r.Receive(stopping{})
	var refused error
	r.Receive(&deliver{stream: "container/c", message: "four", refuse: func(err error) { refused = err }})
	if fault.KindOf(refused) != fault.Unavailable || len(b.spawned) != 2 {
		t.Errorf("who sleeps is woken while all end: %v, %v", refused, b.spawned)
	}
}

// What is packed goes on as before: messages arrive, entities wake, names stay taken and are freed,
// and an owner hears of what is retired.
func TestPack(t *testing.T) {
	b, r := newBoards()
	var retired []string
	var woken []eventlog.Stream
	box := &maker{first: noActor.first, anew: noActor.anew, owner: "s", kind: &kind{
		wake: func(stream eventlog.Stream, _ uint64) entity.Actor {
			woken = append(woken, stream)
			return nil
		},
		retired: func(stream eventlog.Stream, owner string) { retired = append(retired, string(stream)+" of "+owner) },
	}}
	refuse := func(err error) { t.Error(err) }
	claimed := func(name string, stream eventlog.Stream) (owner eventlog.Stream) {
		r.Receive(&claim{name: name, stream: stream, owner: func(o eventlog.Stream) { owner = o }})
		return owner
	}
	claimed("name of s", "sandbox/s")
	claimed("name of c", "container/c")
	claimed("name of what has no entity yet", "container/d")
	r.Receive(&deliver{stream: "sandbox/s", message: "m", spawn: noActor, refuse: refuse})
	r.Receive(&deliver{stream: "container/c", message: "m", spawn: box, refuse: refuse})
	r.Receive(&dozes{stream: "container/c", generation: r.entities["container/c"].generation, handled: 1})
	r.Receive(pack{})
	for name, owner := range map[string]eventlog.Stream{"name of s": "sandbox/s", "name of c": "container/c", "name of what has no entity yet": "container/d"} {
		if got := claimed(name, "container/other"); got != owner {
			t.Errorf("%s belongs to %q, not to %s", name, got, owner)
		}
	}
	for _, stream := range []eventlog.Stream{"sandbox/s", "container/c"} {
		r.Receive(&deliver{stream: stream, message: "more", refuse: refuse})
	}
	if len(b.sent) != 4 || !slices.Equal(woken, []eventlog.Stream{"container/c"}) {
		t.Errorf("sent are %v, and woken %v", b.sent, woken)
	}
	r.Receive(&freed{"container/c"})
	if got := claimed("name of c", "container/e"); got != "container/e" {
		t.Errorf("a name that was freed belongs to %q", got)
	}
	ref := r.entities["container/c"]
	r.Receive(&ended{stream: "container/c", generation: ref.generation, handled: ref.sent})
	if !slices.Equal(retired, []string{"container/c of s"}) || r.entities["container/c"] != nil || r.entities["sandbox/s"] == nil {
		t.Errorf("retired are %v, left is %v", retired, r.entities)
	}
}
