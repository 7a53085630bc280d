package machinetest

import (
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"
)

// Rules is what a walk needs to know of a machine beyond its functions.
type Rules[S, C, E any, F Effect] struct {
	Machine Machine[S, C, E, F]
	// Call draws a command that a caller could send now.
	Call func(t *rapid.T, w *Walk[S, C, E, F]) C
	// Outcome is the outcome of an effect that succeeded.
	Outcome func(f F, now time.Time) C
	// Nature is what happens by itself once nothing is owed or under way, such as
	// the exit of a process that was killed; false if nothing does.
	Nature func(s S, now time.Time) (C, bool)
	// Cancels reports whether c means that the caller of an earlier command went away;
	// it may be nil.
	Cancels func(c, earlier C) bool
	// Rebooted is the machine's first command after a reboot; nil if it gets none.
	Rebooted func(now time.Time) C
	// Final reports whether nothing may lead out of the state.
	Final func(S) bool
	// Outlives reports whether the effect may be owed in a final state.
	Outlives func(F) bool
	// Waits reports whether a state that is not final may owe nothing, because the next
	// step is a caller's.
	Waits func(S) bool
	// Hold checks what else must hold after every step; it may be nil.
	Hold func(t TB, w *Walk[S, C, E, F])
	// End is the commands that end any life.
	End []C
}

// Asked is a command whose caller waits or waited for the answer.
type Asked[S, C, E any] struct {
	Command C
	answer  Answer[S, E]
	// At is the state at the answer.
	At  S
	Err error
}

// Walk is a life in which effects take time, fail, and get lost.
type Walk[S, C, E any, F Effect] struct {
	Rules[S, C, E, F]
	Life Life[S, C, E, F]
	Now  time.Time
	// Waiting and Answered are the callers without and with their answer.
	Waiting, Answered []Asked[S, C, E]
	// running holds the effects under way; no two work on one resource.
	running []F
	// failures counts, by key, how often an effect failed in a row; gone are those of them
	// that were not owed for a while: what they were about may have been forgotten.
	failures map[string]int
	gone     map[string]bool
}

// NewWalk returns a life that has not begun.
func NewWalk[S, C, E any, F Effect](rules Rules[S, C, E, F]) *Walk[S, C, E, F] {
	return &Walk[S, C, E, F]{
		Rules: rules, Life: Life[S, C, E, F]{Machine: rules.Machine}, Now: Epoch, failures: map[string]int{}, gone: map[string]bool{},
	}
}

// Ramble takes random steps: commands from callers, effects that begin and end, time
// that passes, crashes of the daemon, and reboots.
func (w *Walk[S, C, E, F]) Ramble(t *rapid.T, steps int) {
	for range rapid.IntRange(0, steps).Draw(t, "steps") {
		switch rapid.SampledFrom([]string{
			"call", "call", "call", "call", "begin", "begin", "begin", "begin", "begin", "begin", "begin", "begin",
			"end", "end", "end", "end", "end", "end", "end", "end", "fail", "fail", "wait", "wait", "crash", "reboot",
		}).Draw(t, "step") {
		case "call":
			w.Ask(t, w.Call(t, w))
		case "begin":
			if due := w.due(); len(due) > 0 {
				w.running = append(w.running, rapid.SampledFrom(due).Draw(t, "effect"))
			}
		case "end":
			if len(w.running) > 0 {
				w.end(t, rapid.IntRange(0, len(w.running)-1).Draw(t, "effect"), nil)
			}
		case "fail":
			if len(w.running) > 0 {
				w.end(t, rapid.IntRange(0, len(w.running)-1).Draw(t, "effect"), errBroken)
			}
		case "wait":
			w.Now = w.Now.Add(time.Duration(rapid.SampledFrom([]int{1, 10, 60}).Draw(t, "seconds")) * time.Second)
		case "crash":
			w.crash(t)
		case "reboot":
			if w.crash(t); w.Rebooted != nil {
				_ = w.do(t, w.Rebooted(w.Now))
			}
		}
	}
}

// crash ends the daemon: effects under way have no outcome, and nobody waits any more.
func (w *Walk[S, C, E, F]) crash(t TB) {
	t.Helper()
	w.running, w.Waiting = nil, nil
	w.Life.Replay(t)
}

var errBroken = fmt.Errorf("it is broken")

// Ask gives the machine a caller's command.
func (w *Walk[S, C, E, F]) Ask(t TB, c C) {
	t.Helper()
	if w.Cancels != nil {
		w.Waiting = slices.DeleteFunc(w.Waiting, func(a Asked[S, C, E]) bool { return w.Cancels(c, a.Command) })
	}
	if refused := w.do(t, c); refused != nil {
		return
	}
	if answer := w.Machine.Answer(c); answer != nil {
		a := Asked[S, C, E]{Command: c, answer: answer}
		if !w.answered(a, Step[S, E]{State: w.Life.State}) {
			w.Waiting = append(w.Waiting, a)
		}
	}
	w.hold(t)
}

// do gives the machine a command, and the waiting callers their answers.
func (w *Walk[S, C, E, F]) do(t TB, c C) error {
	t.Helper()
	wasFinal := w.Final(w.Life.State)
	steps, refused := w.Life.Do(t, c)
	w.noteGone()
	for _, step := range steps {
		w.Waiting = slices.DeleteFunc(w.Waiting, func(a Asked[S, C, E]) bool { return w.answered(a, step) })
		if wasFinal && !w.Final(step.State) {
			t.Fatalf("%s led out of a final state\n%s", Describe(c), w.Life.History())
		}
	}
	return refused
}

func (w *Walk[S, C, E, F]) answered(a Asked[S, C, E], now Step[S, E]) bool {
	done, err := a.answer(now.State, now.Event)
	if done {
		a.At, a.Err = now.State, err
		w.Answered = append(w.Answered, a)
	}
	return done
}

// end delivers the outcome of an effect that is under way.
func (w *Walk[S, C, E, F]) end(t TB, i int, err error) {
	t.Helper()
	f := w.running[i]
	w.running = slices.Delete(w.running, i, i+1)
	if err != nil {
		_ = w.do(t, w.Machine.Failed(f, err, w.Now))
	} else {
		_ = w.do(t, w.Outcome(f, w.Now))
	}
	w.progress(t, f, err)
	w.hold(t)
}

// noteGone finds failed effects that are not owed any more.
func (w *Walk[S, C, E, F]) noteGone() {
	owed := w.Machine.owed(w.Life.State)
	for key := range w.failures {
		if !slices.ContainsFunc(owed, func(f F) bool { return f.Key() == key }) {
			w.gone[key] = true
		}
	}
}

// progress checks that the outcome of an effect changes what is owed: an effect that is
// owed again at once would loop for ever, and a failed one is owed later each time, up
// to five minutes.
func (w *Walk[S, C, E, F]) progress(t TB, f F, err error) {
	t.Helper()
	before := w.failures[f.Key()]
	if w.failures[f.Key()]++; err == nil {
		delete(w.failures, f.Key())
		delete(w.gone, f.Key())
	}
	owed := w.Machine.owed(w.Life.State)
	i := slices.IndexFunc(owed, func(again F) bool { return again.Key() == f.Key() })
	switch {
	case i < 0:
	case Describe(owed[i]) == Describe(f):
		t.Fatalf("%s ended (%v) and is owed again at once\n%s", Describe(f), err, w.Life.History())
	case err != nil && !owed[i].NotBefore().IsZero():
		wait, want := owed[i].NotBefore().Sub(w.Now), min(time.Second<<min(before, 20), 5*time.Minute)
		if wait == time.Second && w.gone[f.Key()] {
			w.failures[f.Key()], want = 1, wait
		}
		delete(w.gone, f.Key())
		if wait != want {
			t.Fatalf("%s failed %d times in a row and is owed again in %v, want %v\n%s",
				Describe(f), w.failures[f.Key()], wait, want, w.Life.History())
		}
	}
}

// hold checks what must hold after every step.
func (w *Walk[S, C, E, F]) hold(t TB) {
	t.Helper()
	w.finalOwes(t)
	if s := w.Life.State; len(w.Machine.owed(s)) == 0 && !w.Final(s) && !w.Waits(s) {
		t.Fatalf("nobody has to do anything in %q\n%s", w.Machine.Describe(s), w.Life.History())
	}
	if w.Rules.Hold != nil {
		w.Rules.Hold(t, w)
	}
}

func (w *Walk[S, C, E, F]) finalOwes(t TB) {
	t.Helper()
	if !w.Final(w.Life.State) {
		return
	}
	for _, f := range w.Machine.owed(w.Life.State) {
		if !w.Outlives(f) {
			t.Fatalf("a final state owes %s\n%s", Describe(f), w.Life.History())
		}
	}
}

// due returns the effects that can begin now.
func (w *Walk[S, C, E, F]) due() []F {
	return slices.DeleteFunc(w.Machine.owed(w.Life.State), func(f F) bool {
		return f.NotBefore().After(w.Now) || slices.ContainsFunc(w.running, func(r F) bool {
			return r.Key() == f.Key() || r.Resource() == f.Resource()
		})
	})
}

// Settle lets everything that is owed succeed, in order and in its time, until nothing
// is owed. It fails the test if that does not end, or leaves a caller waiting.
func (w *Walk[S, C, E, F]) Settle(t TB) {
	t.Helper()
	for range 200 {
		owed := w.Machine.owed(w.Life.State)
		switch due := w.due(); {
		case len(due) > 0:
			w.running = append(w.running, due[0])
		case len(w.running) > 0:
			w.end(t, 0, nil)
		case len(owed) > 0:
			w.Now = earliest(owed)
		default:
			c, more := w.Nature(w.Life.State, w.Now)
			if !more {
				w.requireAnswers(t)
				return
			}
			_ = w.do(t, c)
			w.hold(t)
		}
	}
	t.Fatalf("it never comes to rest: %s, owes %s\n%s", w.Machine.Describe(w.Life.State),
		Describe(w.Machine.owed(w.Life.State)), w.Life.History())
}

func (w *Walk[S, C, E, F]) requireAnswers(t TB) {
	t.Helper()
	for _, a := range w.Waiting {
		t.Fatalf("nothing is owed, and the caller of %s has no answer\n%s", Describe(a.Command), w.Life.History())
	}
}

func earliest[F Effect](owed []F) time.Time {
	first := slices.MinFunc(owed, func(a, b F) int { return a.NotBefore().Compare(b.NotBefore()) })
	return first.NotBefore()
}

// Lives checks random lives: each comes to rest once effects succeed, and End ends it.
func Lives[S, C, E any, F Effect](t *rapid.T, rules Rules[S, C, E, F], steps int) {
	w := NewWalk(rules)
	w.Ramble(t, steps)
	w.Settle(t)
	for _, c := range rules.End {
		w.Ask(t, c)
		w.Settle(t)
	}
	var absent S
	if s := w.Life.State; !rules.Final(s) && diff(s, absent) != "" && len(rules.End) > 0 {
		t.Fatalf("it has not ended: %s\n%s", rules.Machine.Describe(s), w.Life.History())
	}
	w.Life.Replay(t)
}

// Stubborn checks that the effect with the given key, to which the commands lead, is
// owed later after each failure, up to five minutes, until it succeeds.
func Stubborn[S, C, E any, F Effect](t TB, rules Rules[S, C, E, F], key string, commands ...C) {
	t.Helper()
	w := NewWalk(rules)
	for _, c := range commands {
		w.Ask(t, c)
	}
	for range 12 {
		w.begin(t, key)
		w.end(t, 0, errBroken)
	}
	if wait := w.begin(t, key); wait != 5*time.Minute {
		t.Fatalf("after 12 failures %s is owed in %v", key, wait)
	}
	w.end(t, 0, nil)
	w.Settle(t)
}

// begin waits until the effect with the key is due, begins it, and returns the wait.
func (w *Walk[S, C, E, F]) begin(t TB, key string) time.Duration {
	t.Helper()
	for _, f := range w.Machine.owed(w.Life.State) {
		if f.Key() != key {
			continue
		}
		w.running = append(w.running, f)
		before := w.Now
		if f.NotBefore().After(w.Now) {
			w.Now = f.NotBefore()
		}
		return w.Now.Sub(before)
	}
	t.Fatalf("%s is not owed, but %s\n%s", key, Describe(w.Machine.owed(w.Life.State)), w.Life.History())
	return 0
}
