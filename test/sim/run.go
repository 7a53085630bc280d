package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/machinetest"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// options say what happens in a run.
type options struct {
	seed  uint64
	steps int
	// crashAt is the point at which the daemon is killed, 0 for none; reboot says
	// that the node goes down with it.
	crashAt int
	reboot  bool
	// broken is the share of effects that fail, in percent.
	broken int
	// chaos: the daemon is killed now and then, alone or with the node, and the disk
	// is full for a while.
	chaos bool
}

// run is one run of the simulator.
type run struct {
	options
	rand   *rand.Rand
	now    time.Time
	world  *world
	log    *history
	daemon *daemon
	// points counts the places at which the daemon could have been killed.
	points int
	// settling: from now on all goes well.
	settling bool
	lastID   int
	// stops are the stops that the kubelet could withdraw; gone those it withdrew.
	stops []stopCall
	gone  map[string]bool
	// exits is how containers have ended, which must not be otherwise later.
	exits map[id.Container]container.Exit
	// over are the pods and containers that are gone, and must not come back before the
	// node loses power.
	over  map[string]bool
	notes []string
}

// crashed is what a kill of the daemon unwinds with.
type crashed struct{}

// move is something that can happen next.
type move struct {
	name string
	do   func()
}

func newRun(o options) *run {
	r := &run{options: o, rand: rand.New(rand.NewPCG(o.seed, 1)), now: machinetest.Epoch, gone: map[string]bool{},
		exits: map[id.Container]container.Exit{}, over: map[string]bool{}}
	r.world = newWorld(r.rand)
	r.world.broken = o.broken
	r.log = newHistory(r.world.boot)
	r.daemon = newDaemon(r)
	return r
}

// play lets things happen, then lets all go well, then ends every pod, and returns
// what is wrong in the end.
func (r *run) play() []string {
	defer func() { r.log.close() }()
	for range r.steps {
		r.happen(r.choose())
		if r.failed() {
			return r.world.wrong
		}
	}
	r.settling, r.world.broken = true, 0
	r.log.fill(false)
	r.drain("after the last call")
	r.endPods("StopPodSandbox", sandbox.Stop{}, sandbox.StopAnswer)
	r.endPods("RemovePodSandbox", sandbox.Remove{}, sandbox.RemoveAnswer)
	r.checkEnd()
	return r.world.wrong
}

func (r *run) failed() bool { return len(r.world.wrong) > 0 }

func (r *run) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// point is a place at which the daemon can be killed.
func (r *run) point() {
	r.points++
	if r.points == r.crashAt || r.chaos && !r.settling && r.rand.IntN(400) == 0 {
		panic(crashed{})
	}
}

// happen makes a move, and brings the daemon back if it is killed in the middle,
// which it reports.
func (r *run) happen(m move) (survived bool) {
	r.note("%s", m.name)
	if r.survives(func() { r.point(); m.do() }) {
		r.check()
		return true
	}
	if r.reboot && !r.chaos || r.chaos && r.rand.IntN(3) == 0 {
		r.rebootNode()
	}
	r.restart()
	r.check()
	return false
}

// survives reports whether the daemon was not killed in f.
func (r *run) survives(f func()) (survived bool) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case crashed:
			r.note("--- the daemon is killed")
		default:
			panic(p)
		}
	}()
	f()
	return true
}

// restart begins new daemons until one survives its own start.
func (r *run) restart() {
	for {
		r.log.reopen(r.world.boot)
		r.daemon, r.stops, r.gone = newDaemon(r), nil, map[string]bool{}
		r.note("--- a daemon starts")
		if r.survives(r.daemon.boot) {
			return
		}
	}
}

// rebootNode leaves room on the disk: a daemon waits for that before it tells the
// entities of a reboot.
func (r *run) rebootNode() {
	r.log.fill(false)
	r.world.reboot()
	lost := r.log.powerFails(r.world.boot, r.rand)
	clear(r.over)
	r.note("--- the node loses power, and the log its last %d appends", lost)
}

// work are the moves that the daemon is about to make.
func (r *run) work() []move {
	var moves []move
	d := r.daemon
	for _, s := range sortedKeys(d.sandboxes) {
		moves = append(moves, d.sandboxes[s].jobs()...)
	}
	for _, c := range sortedKeys(d.containers) {
		moves = append(moves, d.containers[c].jobs()...)
	}
	for i, t := range d.tasks {
		if t.writes && r.log.full {
			continue
		}
		moves = append(moves, move{t.name, func() {
			d.tasks = append(d.tasks[:i:i], d.tasks[i+1:]...)
			t.do()
		}})
	}
	if len(r.world.journal) > 0 && !r.log.full {
		x := r.world.journal[0]
		moves = append(moves, move{fmt.Sprintf("the monitor reports the end of %s%s with %d", x.container, x.sandbox, x.code), d.exited})
	}
	return moves
}

// choose draws what happens next.
func (r *run) choose() move {
	for {
		var moves []move
		switch n := r.rand.IntN(100); {
		case n < 80:
			moves = r.work()
		case n < 93:
			moves = []move{r.call()}
		case n < 95:
			moves = r.nature()
		case n < 97:
			moves = []move{{"time passes", func() { r.now = r.now.Add(time.Duration(1+r.rand.IntN(20)) * time.Second) }}}
		case n < 99:
			moves = r.snapshots()
		case r.log.full:
			moves = []move{{"there is space on the disk", func() { r.log.fill(false) }}}
		case r.chaos && r.rand.IntN(4) == 0:
			moves = []move{{"the disk is full", func() { r.log.fill(true) }}}
		}
		if len(moves) > 0 {
			return moves[r.rand.IntN(len(moves))]
		}
	}
}

// nature are the moves of what runs in pods: processes end by themselves.
func (r *run) nature() []move {
	var moves []move
	for _, c := range sortedKeys(r.world.boxes) {
		if p := r.world.boxes[c].init; p != nil && p.alive {
			code := r.rand.IntN(4)
			moves = append(moves, move{fmt.Sprintf("%s ends with %d", c, code), func() { r.world.endInit(c, code) }})
		}
	}
	for _, s := range sortedKeys(r.world.pods) {
		if p := r.world.pods[s].holder; p != nil && p.alive && r.rand.IntN(20) == 0 {
			moves = append(moves, move{fmt.Sprintf("the holder of %s is killed", s), func() { r.world.killHolder(s, 137) }})
		}
	}
	return moves
}

func (r *run) snapshots() []move {
	var moves []move
	for _, s := range sortedKeys(r.daemon.sandboxes) {
		moves = append(moves, move{"snapshot of " + string(s), r.daemon.sandboxes[s].save})
	}
	for _, c := range sortedKeys(r.daemon.containers) {
		moves = append(moves, move{"snapshot of " + string(c), r.daemon.containers[c].save})
	}
	return moves
}

// drain lets everything that is owed succeed until nothing is owed any more.
func (r *run) drain(when string) {
	r.note("--- all goes well now, %s", when)
	for range 5000 {
		if r.failed() {
			return
		}
		if moves := r.work(); len(moves) > 0 {
			r.happen(moves[r.rand.IntN(len(moves))])
			continue
		}
		next := r.next()
		if next.IsZero() {
			if r.daemon.unanswered > 0 {
				r.world.violation("%s: nothing is owed, and %d callers have no answer", when, r.daemon.unanswered)
			}
			return
		}
		r.now = next
	}
	r.world.violation("%s: it never comes to rest", when)
}

// next is the earliest time at which something becomes due.
func (r *run) next() (next time.Time) {
	earliest := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for _, e := range r.daemon.sandboxes {
		earliest(e.next())
	}
	for _, e := range r.daemon.containers {
		earliest(e.next())
	}
	return next
}

// endPods has the kubelet ask for the end of every pod. If the node loses power, so does
// the kubelet: then it begins anew.
func (r *run) endPods(what string, c sandbox.Command, until answer[sandbox.State, sandbox.Event]) {
	for boot := 0; boot != r.world.boot; {
		boot = r.world.boot
		r.askAll(what, c, until)
		r.drain("after a " + what + " for each pod")
	}
}

func (r *run) askAll(what string, c sandbox.Command, until answer[sandbox.State, sandbox.Event]) {
	for _, s := range sortedKeys(r.daemon.sandboxes) {
		if r.failed() {
			return
		}
		name := fmt.Sprintf("%s %s", what, s)
		end := move{name, func() {
			r.daemon.sandboxes[s].ask(c, until, func(err error) {
				if err != nil {
					r.world.violation("%s: %v, although nothing fails", name, err)
				}
			})
		}}
		for !r.happen(end) {
			r.note("the kubelet asks again")
		}
	}
}

// check tests what must hold whenever the daemon is up.
func (r *run) check() {
	names := map[sandbox.Name]bool{}
	for _, s := range sortedKeys(r.daemon.sandboxes) {
		state, p := r.daemon.sandboxes[s].state, r.world.pod(s)
		r.remember(string(s), state.Phase == sandbox.Removed || state.Phase == sandbox.Failed)
		if !sandbox.NameFree(state) {
			if names[state.Name] {
				r.world.violation("two sandboxes are called %s", state.Name.Name)
			}
			names[state.Name] = true
		}
		switch state.Phase {
		case sandbox.Ready:
			if !p.dirs || !p.namespaces || !state.HostNetwork && !p.address {
				r.world.violation("%s is ready, and something is missing: %+v", s, *p)
			}
		case sandbox.Removed, sandbox.Failed:
			if p.dirs || p.namespaces || p.holder != nil {
				r.world.violation("%s is %s, and something is left: %+v", s, state.Phase, *p)
			}
		}
		switch state.Phase {
		case sandbox.Stopped, sandbox.Removing, sandbox.Removed, sandbox.Failed:
			if r.world.lives(s) {
				r.world.violation("%s is %s, and a process of it lives", s, state.Phase)
			}
		}
	}
	for _, c := range sortedKeys(r.daemon.containers) {
		state, b := r.daemon.containers[c].state, r.world.box(c)
		r.remember(string(c), state.Phase == container.Removed || state.Phase == container.Failed)
		if b.started && (state.Phase == container.Unwinding || state.Phase == container.Failed) {
			r.world.violation("the program of %s has run, and is said to be none: it is %s", c, state.Phase)
		}
		if known, ended := r.exits[c]; ended && state.Run.Exit != known {
			r.world.violation("%s had ended with %+v, and now with %+v", c, known, state.Run.Exit)
		}
		if state.Run.ExitSeen || state.Phase == container.Exited {
			r.exits[c] = state.Run.Exit
		}
		switch state.Phase {
		case container.Running:
			if !(b.init != nil && b.init.alive) && !r.reported(c) {
				r.world.violation("%s runs, and its process is gone without a report", c)
			}
		case container.Removed, container.Failed:
			if b.rootfs || b.init != nil {
				r.world.violation("%s is %s, and something is left: %+v", c, state.Phase, *b)
			}
		}
	}
}

// remember finds pods and containers that were gone and are back.
func (r *run) remember(name string, over bool) {
	if r.over[name] && !over {
		r.world.violation("%s was gone, and is back", name)
	}
	r.over[name] = over
}

// reported: the monitor's journal holds the exit of the container.
func (r *run) reported(c any) bool {
	for _, x := range r.world.journal {
		if x.container == c {
			return true
		}
	}
	return false
}

// checkEnd tests that everything has ended and nothing is left.
func (r *run) checkEnd() {
	for _, s := range sortedKeys(r.daemon.sandboxes) {
		if e := r.daemon.sandboxes[s]; !sandbox.Ended(e.state) {
			r.world.violation("%s has not ended: it is %q", s, e.state.Phase)
		}
	}
	for _, c := range sortedKeys(r.daemon.containers) {
		if e := r.daemon.containers[c]; !container.Ended(e.state) {
			r.world.violation("%s has not ended: it is %q", c, e.state.Phase)
		}
	}
	for _, left := range r.world.left() {
		r.world.violation("left on the node: %s", left)
	}
}
