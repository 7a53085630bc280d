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
	// Key identifies the effect among all that one state can owe.
	Key() string
	// Resource names what it works on. Effects on one resource never overlap.
	Resource() string
	// NotBefore is the earliest time to issue it; zero means now.
	NotBefore() time.Time
}

// NoEffect is the Effect of a machine that owes nothing.
type NoEffect struct{}

// Key is empty: there is no such effect.
func (NoEffect) Key() string { return "" }

// Resource is empty: there is no such effect.
func (NoEffect) Resource() string { return "" }

// NotBefore is zero: there is no such effect.
func (NoEffect) NotBefore() time.Time { return time.Time{} }

// Answer says whether a caller has its answer. It is called as actors/entity calls it:
// with the state right after the command and no event, then with every later event.
type Answer[S, E any] func(S, E) (done bool, err error)

// Machine is a machine under test: S, C, E and F are its State, Command, Event
// and Effect.
type Machine[S, C, E any, F Effect] struct {
	Decide func(S, C) ([]E, error)
	Evolve func(S, E) S
	// Owed, and Failed, the effects' method, are nil for a machine that owes nothing.
	Owed   func(S) []F
	Failed func(f F, err error, at time.Time) C
	// Settling is nil for a machine whose streams lose events only from the beginning.
	Settling func() Settling[E]
	// Describe says in a few words what state it is.
	Describe func(S) string
	// Answer returns what the caller of a command waits for; nil means that durable
	// events are the answer.
	Answer func(C) Answer[S, E]
	// Commands, Events and Effects hold one value of every type.
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

// Life is one instance of a machine and everything that happened to it.
type Life[S, C, E any, F Effect] struct {
	Machine Machine[S, C, E, F]
	State   S
	// Events are the history; Causes holds a description of the command behind each.
	Events []E
	Causes []string
}

// Step is an event and the state that it led to.
type Step[S, E any] struct {
	Event E
	State S
}

// Do gives the machine a command and returns what followed. It fails the test if one
// of the machine's functions is not deterministic, changes its arguments or panics, or
// if the state would not survive encoding.
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

// check checks what holds for every state: among others, that its exported fields are
// all that counts. Checkpoints keep those, and JSON, which is tried here, shows them.
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
	encoded, err := json.Marshal(l.State)
	if err != nil {
		t.Fatalf("the state cannot be encoded: %v", err)
	}
	var restored S
	if err := json.Unmarshal(encoded, &restored); err != nil {
		t.Fatalf("%s does not decode: %v", encoded, err)
	}
	if diff := diff(l.State, restored); diff != "" {
		t.Fatalf("the state changed by encoding (-state +restored):\n%s", diff)
	}
	if diff := diff(owed, l.Machine.owed(restored)); diff != "" {
		t.Fatalf("what is owed changed by encoding (-state +restored):\n%s", diff)
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
		t.Fatalf("the state changed in a replay (-state +replayed):\n%s", diff)
	}
	l.State = s
}

// explain turns a panic of the machine into a failure with the history.
func (l *Life[S, C, E, F]) explain(t TB, doing string) {
	t.Helper()
	// Some test libraries end a test with a panic of their own. A machine's panics are
	// runtime errors.
	switch p := recover().(type) {
	case nil:
	case interface{ RuntimeError() }:
		t.Fatalf("%s: panic: %v\nhistory:\n%s", doing, p, l.History())
	default:
		panic(p)
	}
}

// History returns what happened, one event a line, each with its cause.
func (l *Life[S, C, E, F]) History() string {
	var text string
	for i, e := range l.Events {
		text += fmt.Sprintf("%3d  %-60s ← %s\n", i+1, Describe(e), l.Causes[i])
	}
	return text
}

// diff compares as an encoding would: empty and nil maps and slices are equal, and so
// are times of the same instant.
func diff(a, b any) string {
	if reflect.DeepEqual(a, b) {
		return ""
	}
	return cmp.Diff(a, b, cmpopts.EquateEmpty(), cmp.Exporter(func(reflect.Type) bool { return true }))
}

// dump shows a value in full, to find out whether it changed.
func dump(v any) string { return fmt.Sprintf("%#v", v) }
