package sim

import (
	"flag"
	"strings"
	"testing"
)

var (
	seed  = flag.Uint64("sim.seed", 0, "run the simulator with this seed only")
	runs  = flag.Int("sim.runs", 250, "how many lives TestChaos plays")
	steps = flag.Int("sim.steps", 400, "how many things happen in a life before it ends")
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

func play(t *testing.T, o options) *run {
	t.Helper()
	r := newRun(o)
	for i, wrong := range r.play() {
		if i == 0 {
			t.Logf("the last of %d steps:\n%s", len(r.notes), r.story())
			t.Logf("to see it again: -run '^%s$' -sim.seed %d (crash at %d, reboot %t)", t.Name(), o.seed, o.crashAt, o.reboot)
		}
		t.Error(wrong)
	}
	if t.Failed() {
		t.FailNow()
	}
	return r
}

// Without any trouble, lives end and leave nothing.
func TestCalm(t *testing.T) {
	t.Parallel()
	for _, s := range seeds(100) {
		play(t, options{seed: s, steps: *steps})
	}
}

// A daemon that is killed at any one place, with or without the node going down,
// has a successor that finishes or undoes what was begun.
func TestCrashAnywhere(t *testing.T) {
	t.Parallel()
	for _, s := range seeds(4) {
		o := options{seed: s, steps: 150, broken: int(s%3) * 15}
		points := play(t, o).points
		for o.crashAt = 1; o.crashAt <= points; o.crashAt++ {
			for _, o.reboot = range []bool{false, true} {
				play(t, o)
			}
		}
	}
}

// Everything at once: effects fail, with and without having done their work, the
// daemon is killed again and again, the disk is full at times, the node reboots.
func TestChaos(t *testing.T) {
	t.Parallel()
	for _, s := range seeds(*runs) {
		play(t, options{seed: s, steps: *steps, broken: 15, chaos: true})
	}
}

// story is what happened: all of it if one seed was asked for, otherwise the end.
func (r *run) story() string {
	notes := r.notes
	if *seed == 0 && len(notes) > 60 {
		notes = notes[len(notes)-60:]
	}
	return strings.Join(notes, "\n")
}
