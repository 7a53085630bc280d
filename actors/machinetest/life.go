package machinetest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Effect is what this package needs to know of an effect.
type Effect interface {
	// Key tells the effect from all others that the same state can owe.
	Key() string
	// Resource names what it works on; effects on one resource never overlap.
	Resource() string
	// NotBefore is when it may be issued; the zero time means now.
	NotBefore() time.Time
}

// NoEffect is the Effect of a machine that owes nothing.
type NoEffect struct{}

// Key is empty, for there is no such effect.
func (NoEffect) Key() string { return "" }

// Resource is empty, for there is no such effect.
func (NoEffect) Resource() string { return "" }

// NotBefore is the zero time, for there is no such effect.
func (NoEffect) NotBefore() time.Time { return time.Time{} }

// Answer says whether a caller has its answer, as actors/entity asks it: with
// the state that the command led to and no event, then after every later event.
type Answer[S, E any] func(S, E) (done bool, err error)

// Machine is a machine under test: S, C, E and F are its State, Command, Event
// and Effect.
type Machine[S, C, E any, F Effect] struct {
	Decide func(S, C) ([]E, error)
	Evolve func(S, E) S
	// Owed is nil for a machine that owes nothing, and so is Failed, the Failed
	// method of its effects.
	Owed   func(S) []F
	Failed func(f F, err error, at time.Time) C
	// Describe says in a few words where the state is.
	Describe func(S) string
	// Answer returns what the caller of a command waits for; nil means that the
	// answer is there as soon as the command is durable.
	Answer func(C) Answer[S, E]
	// Commands, Events and Effects hold one value of each type there is.
	Commands []C
	Events   []E
	Effects  []F
}

func (m Machine[S, C, E, F]) owed(s S) []F {
	if m.Owed == nil {
		return nil
	}
	return m.Owed(s)
}

// TB is what a check needs of a test; *testing.T and *rapid.T have it.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Life is one instance of a machine and all that happened to it.
type Life[S, C, E any, F Effect] struct {
	Machine Machine[S, C, E, F]
	State   S
	// Events are the history; Causes holds, for each event, the command that led
	// to it, in words.
	Events []E
	Causes []string
}

// Step is an event and the state that it led to.
type Step[S, E any] struct {
	Event E
	State S
}

// Do gives the machine a command and returns what followed. It fails the test if
// one of the machine's functions does something else when it is asked again,
// changes its arguments, or panics, or if the state would not survive a
// snapshot.
func (l *Life[S, C, E, F]) Do(t TB, c C) (steps []Step[S, E], refused error) {
	t.Helper()
	defer l.explain(t, fmt.Sprintf("command %T", c))
	before := dump(l.State) + dump(c)
	events, refused := l.Machine.Decide(l.State, c)
	again, refusedAgain := l.Machine.Decide(l.State, c)
	if dump(l.State)+dump(c) != before {
		t.Fatalf("Decide changed its arguments: state %s, command %s", Describe(l.State), Describe(c))
	}
	if !reflect.DeepEqual(events, again) || !reflect.DeepEqual(refused, refusedAgain) {
		t.Fatalf("Decide is not deterministic: command %s led to %s and to %s", Describe(c), Describe(events), Describe(again))
	}
	if refused != nil && len(events) > 0 {
		t.Fatalf("command %s was refused (%v), but led to %s", Describe(c), refused, Describe(events))
	}
	for _, e := range events {
		l.evolve(t, e)
		l.Events = append(l.Events, e)
		l.Causes = append(l.Causes, Describe(c))
		steps = append(steps, Step[S, E]{e, l.State})
	}
	l.check(t)
	return steps, refused
}

func (l *Life[S, C, E, F]) evolve(t TB, e E) {
	t.Helper()
	before := dump(l.State) + dump(e)
	next := l.Machine.Evolve(l.State, e)
	if again := l.Machine.Evolve(l.State, e); dump(next) != dump(again) {
		t.Fatalf("Evolve is not deterministic: event %s led to %s and to %s", Describe(e), Describe(next), Describe(again))
	}
	if dump(l.State)+dump(e) != before {
		t.Fatalf("Evolve changed its arguments: state %s, event %s", Describe(l.State), Describe(e))
	}
	l.State = next
}

// check tests what holds for every state.
func (l *Life[S, C, E, F]) check(t TB) {
	t.Helper()
	owed := l.Machine.owed(l.State)
	if again := l.Machine.owed(l.State); !reflect.DeepEqual(owed, again) {
		t.Fatalf("Owed is not deterministic: %s, then %s", Describe(owed), Describe(again))
	}
	keys := map[string]bool{}
	for _, f := range owed {
		if keys[f.Key()] {
			t.Fatalf("two effects with the key %q are owed: %s", f.Key(), Describe(owed))
		}
		keys[f.Key()] = true
	}
	snapshot, err := json.Marshal(l.State)
	if err != nil {
		t.Fatalf("the state has no snapshot: %v", err)
	}
	var restored S
	if err := json.Unmarshal(snapshot, &restored); err != nil {
		t.Fatalf("the snapshot %s does not load: %v", snapshot, err)
	}
	if diff := diff(l.State, restored); diff != "" {
		t.Fatalf("the state is another after a snapshot (-state +restored):\n%s", diff)
	}
	if diff := diff(owed, l.Machine.owed(restored)); diff != "" {
		t.Fatalf("something else is owed after a snapshot (-state +restored):\n%s", diff)
	}
}

// Replay rebuilds the state from the history, as a restart does, and fails the
// test if it differs.
func (l *Life[S, C, E, F]) Replay(t TB) {
	t.Helper()
	defer l.explain(t, "replay")
	var s S
	for _, e := range l.Events {
		s = l.Machine.Evolve(s, e)
	}
	if diff := diff(l.State, s); diff != "" {
		t.Fatalf("the state is another after a replay (-state +replayed):\n%s", diff)
	}
	l.State = s
}

// explain turns a panic of the machine into a failure that tells the history.
func (l *Life[S, C, E, F]) explain(t TB, doing string) {
	t.Helper()
	// A test's own way to end is a panic in some test libraries; only a machine's
	// panics are runtime errors.
	switch p := recover().(type) {
	case nil:
	case interface{ RuntimeError() }:
		t.Fatalf("%s: panic: %v\nhistory:\n%s", doing, p, l.History())
	default:
		panic(p)
	}
}

// History is what happened, one event a line, each with its cause.
func (l *Life[S, C, E, F]) History() string {
	var text string
	for i, e := range l.Events {
		text += fmt.Sprintf("%3d  %-60s ← %s\n", i+1, Describe(e), l.Causes[i])
	}
	return text
}

// diff compares as a snapshot does: an empty map or slice and none are the same,
// and so are two times that are the same instant.
func diff(a, b any) string {
	if reflect.DeepEqual(a, b) {
		return ""
	}
	return cmp.Diff(a, b, cmpopts.EquateEmpty(), cmp.Exporter(func(reflect.Type) bool { return true }))
}

// dump shows every bit of a value, to see whether it was changed.
func dump(v any) string { return fmt.Sprintf("%#v", v) }
