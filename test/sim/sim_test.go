package sim

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var (
	seed  = flag.Uint64("sim.seed", 0, "run the simulator with this seed only")
	runs  = flag.Int("sim.runs", 1200, "how many lives TestChaos plays")
	steps = flag.Int("sim.steps", 1200, "how many things happen in a life before it ends")
)

// seeds are the seeds to play: the one that the flag names, or so many.
func seeds(n int) []uint64 {
	if *seed != 0 {
		return []uint64{*seed}
	}
	all := make([]uint64, n)
	for i := range all {
		all[i] = uint64(i + 1)
	}
	return all
}

// hangLimit is how long one life may take. Most take milliseconds: one that takes longer
// hangs, which is a finding, and not worth the suite's whole time.
const hangLimit = time.Minute

func play(t *testing.T, o options) *run {
	t.Helper()
	hung := time.AfterFunc(hangLimit, func() {
		fmt.Fprintf(os.Stderr, "%s hangs with -sim.seed %d (%+v)\n", t.Name(), o.seed, o)
		panic("a life of the simulator hangs")
	})
	defer hung.Stop()
	r := newRun(o)
	wrong := r.play()
	if len(wrong) == 0 {
		return r
	}
	o.tell = true
	again := newRun(o)
	again.play()
	t.Logf("the last of %d steps:\n%s", again.made, again.story())
	t.Logf("to see it again: -run '^%s$' -sim.seed %d (crash at %d, reboot %t)", t.Name(), o.seed, o.crashAt, o.reboot)
	for _, w := range wrong {
		t.Error(w)
	}
	t.FailNow()
	return r
}

// Without any trouble, lives end and leave nothing.
func TestCalm(t *testing.T) {
	t.Parallel()
	for _, s := range seeds(100) {
		play(t, options{seed: s, steps: *steps})
	}
}

// After a kill of the daemon at any one step, with or without the node, the next daemon
// finishes or undoes what was begun.
func TestCrashAnywhere(t *testing.T) {
	t.Parallel()
	for _, s := range seeds(2) {
		o := options{seed: s, steps: 300, broken: int(s%3) * 15}
		for o.crashAt = 1; o.crashAt < o.steps; o.crashAt++ {
			for _, o.reboot = range []bool{false, true} {
				play(t, o)
			}
		}
	}
}

// Everything at once; see options.chaos.
func TestChaos(t *testing.T) {
	t.Parallel()
	for _, s := range seeds(*runs) {
		play(t, options{seed: s, steps: *steps, broken: 15, chaos: true, impatient: s%4 == 0})
	}
}

// A stream that cannot be read any more is ended with its pod, from its last good state, and
// costs no other one.
func TestDamage(t *testing.T) {
	t.Parallel()
	for _, s := range seeds(300) {
		play(t, options{seed: s, steps: *steps, broken: 5, damage: true})
	}
}

// story is what happened: all of it if one seed was asked for, otherwise the end.
func (r *run) story() string {
	notes := r.notes
	if *seed == 0 && len(notes) > 80 {
		notes = notes[len(notes)-80:]
	}
	return strings.Join(notes, "\n")
}
