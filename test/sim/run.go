package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/machinetest"
	"github.com/stele-runtime/stele/actors/node"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// options say what happens in a run.
type options struct {
	seed  uint64
	steps int
	// crashAt is the step at which the daemon is killed, 0 for none; reboot says
	// that the node goes down with it.
	crashAt int
	reboot  bool
	// broken is the share of effects that fail, in percent.
	broken int
	// chaos: whatever can go wrong does now and then. The daemon is killed, alone, with
	// the monitor or with the node; the disk is full or lies; machines and drivers panic;
	// effects hang; the clock jumps.
	chaos bool
	// impatient: every caller goes away before its answer, sooner or later.
	impatient bool
	// damage: one stream cannot be read any more after a restart.
	damage bool
	// tell: the story is kept.
	tell bool
}

// run is one run of the simulator.
type run struct {
	options
	rand   *rand.Rand
	logger *slog.Logger
	world  *world
	log    *history
	view   *view
	daemon *daemon

	kubelet *kubelet
	faults  *faults
	checks  *checks
	// saved is the last snapshot of the whole node, savedAt how far it goes.
	saved   []byte
	savedAt eventlog.Sequence

	// uptime is the node's clock that never jumps, skew how far the wall clock is from it.
	uptime, skew time.Duration
	// booted is when the node's present boot began, by uptime.
	booted time.Duration
	// made counts the steps.
	made int
	// settling: from now on nothing goes wrong.
	settling bool
	// orphans are effects that a killed daemon left behind, by stream.
	orphans []*orphan
	// quarantined: a stream is left alone by this daemon.
	quarantined bool
	notes       []string
}

type orphan struct {
	stream string
	do     func()
}

// move is something that can happen next.
type move struct {
	kind, of string
	what     any
	do       func()
}

func (m move) String() string {
	if m.what == nil {
		return m.kind + ": " + m.of
	}
	return fmt.Sprintf("%s: %s: %T", m.kind, m.of, m.what)
}

func newRun(o options) *run {
	r := &run{options: o, rand: rand.New(rand.NewPCG(o.seed, 1))}
	r.kubelet = &kubelet{run: r, stops: map[id.Container][]*stopCall{}, results: map[string]error{}}
	r.faults = &faults{run: r, sticky: map[string]bool{}}
	r.checks = &checks{run: r, exits: map[id.Container]container.Exit{}, over: map[string]bool{}, asked: map[id.Container]*daemon{}}
	r.logger = slog.New(watcher{slog.DiscardHandler, r})
	r.world = newWorld(r.rand)
	r.world.broken = o.broken
	r.log = newHistory(r)
	r.view = newView(r)
	r.start()
	return r
}

// watcher sees what the actors log: that a stream is quarantined.
type watcher struct {
	slog.Handler
	run *run
}

func (w watcher) Enabled(context.Context, slog.Level) bool { return true }

func (w watcher) WithAttrs([]slog.Attr) slog.Handler { return w }

func (w watcher) Handle(_ context.Context, record slog.Record) error {
	if record.Level >= slog.LevelWarn {
		w.run.note("    the daemon logs: %s", record.Message)
	}
	if record.Message == "stream is quarantined" {
		w.run.quarantined = true
	}
	return nil
}

// play makes things happen, then stops the faults, then ends every pod, and returns what
// is wrong in the end.
func (r *run) play() []string {
	defer func() { _ = r.log.Close() }()
	for r.made < r.steps && !r.failed() {
		if r.made == r.crashAt && r.crashAt > 0 {
			r.kill(r.reboot)
		}
		r.happen(r.choose())
	}
	r.settle()
	r.live()
	r.endPods()
	r.checks.checkEnd()
	return r.world.wrong
}

func (r *run) failed() bool { return len(r.world.wrong) > 0 }

func (r *run) violation(format string, args ...any) { r.world.violation(format, args...) }

func (r *run) note(format string, args ...any) {
	if r.tell {
		r.notes = append(r.notes, fmt.Sprintf(format, args...))
	}
}

// wall is the wall clock.
func (r *run) wall() time.Time { return machinetest.Epoch.Add(r.uptime + r.skew) }

// happen makes a move.
func (r *run) happen(m move) {
	r.made++
	if r.tell {
		r.note("%s", m)
	}
	m.do()
	if m.kind != "message" && m.kind != "timer" { // those change no more than memory
		r.checks.check()
	}
}

// kill ends the daemon at once, with or without the node, and starts the next one.
func (r *run) kill(reboot bool) {
	r.log.crash()
	r.daemon.stage.dead = true
	for _, t := range r.daemon.stage.tasks {
		if outlives(t.name) && r.rand.IntN(2) == 0 {
			r.orphans = append(r.orphans, &orphan{streamOf(t.name), t.do})
		}
	}
	r.note("--- the daemon is killed; %d effects outlive it", len(r.orphans))
	if reboot {
		r.rebootNode()
	} else if r.chaos && r.rand.IntN(4) == 0 {
		r.note("--- the monitor is killed, too")
		r.world.monitorDies(func() bool { return r.rand.IntN(3) == 0 })
	}
	r.start()
}

// rebootNode leaves room on the disk: a daemon waits for that before it tells the
// entities of a reboot.
func (r *run) rebootNode() {
	r.log.full = false
	r.orphans = nil
	r.world.reboot()
	r.booted = r.uptime
	lost := r.log.powerFails(r.rand)
	if r.savedAt > r.log.Last() {
		r.saved = nil // what it is of never reached the disk, and neither did it
	}
	clear(r.checks.over)
	r.view.rebuild(r.saved)
	r.note("--- the node loses power, and the log its last %d appends", lost)
}

// start begins a new daemon.
func (r *run) start() {
	r.log.reopen()
	read := r.view.restored(r.saved)
	if problem := read.differs(r.view.states); problem != "" {
		r.violation("the log is read otherwise than it was followed: %s", problem)
	}
	if missing := r.view.states.missing(read); missing != "" {
		r.violation("%s lives, and the log does not say so", missing)
	}
	r.quarantined = false
	r.daemon = newDaemon(r)
	r.note("--- a daemon starts")
	r.daemon.boot(r.view.past(read))
}

// save makes a snapshot of the whole node.
func (r *run) save() { r.saved, r.savedAt = r.view.snapshot(), r.view.Sequence }

// finishOrphans lets the effects on a stream end that an earlier daemon left: the monitor
// does not let two of them work on one container.
func (r *run) finishOrphans(stream string) {
	for i := 0; i < len(r.orphans); i++ {
		if o := r.orphans[i]; stream == "" || o.stream == stream {
			r.orphans = append(r.orphans[:i:i], r.orphans[i+1:]...)
			i = -1
			r.note("    an effect on %s that outlived its daemon ends", o.stream)
			o.do()
		}
	}
}

// work are the moves that the daemon, the disk and the monitor are about to make.
func (r *run) work() []move {
	moves := r.daemon.stage.moves()
	if len(r.log.pending) > 0 {
		moves = append(moves, move{kind: "disk", of: string(r.log.pending[0].append.Stream), do: r.log.commit})
	}
	if r.daemon.serving {
		for _, x := range r.world.journal {
			if !r.daemon.reporting[x] {
				moves = append(moves, move{kind: "monitor", of: string(x.container) + string(x.sandbox) + " ended", do: func() { r.daemon.report(x) }})
			}
		}
	}
	return moves
}

// choose draws what happens next.
func (r *run) choose() move {
	for {
		var moves []move
		switch n := r.rand.IntN(100); {
		case n < 88:
			moves = r.work()
		case n < 93:
			moves = r.callNow()
		case n < 95:
			moves = r.nature()
		case n < 97:
			moves = []move{{kind: "time passes", do: func() { r.uptime += time.Duration(1+r.rand.IntN(20)) * time.Second }}, {kind: "who rests may sleep", do: r.daemon.core.Doze}, {kind: "what rests is packed", do: r.daemon.core.Pack}}
		case n < 98:
			moves = []move{{kind: "snapshot", do: r.save}}
			if r.rand.IntN(2) == 0 {
				moves = []move{{kind: "old records go", do: r.keep}}
			}
		case r.chaos:
			moves = []move{r.disaster()}
		}
		if len(moves) > 0 {
			return moves[r.rand.IntN(len(moves))]
		}
	}
}

// callNow is what the kubelet asks for next, once it is served.
func (r *run) callNow() []move {
	if !r.daemon.serving {
		return nil
	}
	// Callers of StopContainer give up more often than others.
	if r.impatient && len(r.daemon.callers) > 2 || r.kubelet.stopsSomething() && r.rand.IntN(3) == 0 {
		x := r.kubelet.someCaller()
		return []move{{kind: "call", of: "the caller of " + x.name + " goes away", do: func() { r.kubelet.leave(x) }}}
	}
	return []move{r.kubelet.call()}
}

// disaster draws what goes wrong next.
func (r *run) disaster() move {
	switch n := r.rand.IntN(10); {
	case n < 3:
		full := r.rand.IntN(4) == 0
		return move{kind: fmt.Sprintf("the disk is full: %t", full), do: func() { r.log.full = full }}
	case n < 5:
		return move{kind: "hung effects go on", do: r.unhang}
	case n < 6:
		return move{kind: "the clock jumps", do: func() {
			r.skew += time.Duration(r.rand.IntN(7200)-3600) * time.Second
			clear(r.daemon.tries) // what waits for the clock need not wait for it any more
		}}
	case n < 8:
		return move{kind: "kill", do: func() { r.kill(false) }}
	case n < 9:
		return move{kind: "the daemon is told to end", do: func() {
			r.daemon.cancel()
			for range r.rand.IntN(30) {
				if moves := r.work(); len(moves) > 0 {
					pick(r, moves).do()
				}
			}
			r.kill(false)
		}}
	default:
		return move{kind: "power failure", do: func() { r.kill(true) }}
	}
}

func (r *run) unhang() {
	for _, t := range r.daemon.stage.tasks {
		t.hangs = false
	}
}

// nature are the moves of what runs in pods: processes end by themselves.
func (r *run) nature() []move {
	var moves []move
	for _, c := range sortedKeys(r.world.boxes) {
		if p := r.world.boxes[c].init; p != nil && p.alive {
			code := r.rand.IntN(4)
			moves = append(moves, move{kind: "exit", of: fmt.Sprintf("%s with %d", c, code), do: func() { r.world.endInit(c, code) }})
		}
	}
	for _, s := range sortedKeys(r.world.pods) {
		if p := r.world.pods[s].holder; p != nil && p.alive && r.rand.IntN(20) == 0 {
			moves = append(moves, move{kind: "exit", of: fmt.Sprintf("the holder of %s", s), do: func() { r.world.killHolder(s, 137) }})
		}
	}
	return moves
}

// settle ends all trouble, and waits until the node has come to rest.
func (r *run) settle() {
	if r.failed() {
		return
	}
	r.settling, r.world.broken, r.log.full = true, 0, false
	r.note("--- all goes well from now on")
	r.finishOrphans("")
	r.unhang()
	if r.damage {
		r.damageOne()
	}
	r.keep()
	if r.quarantined || r.damage {
		r.kill(false)
	}
	r.drain("after the last call")
}

// restMost is how many steps a node may need to come to rest.
const restMost = 6000

// drain lets everything that is owed succeed until nothing is owed any more.
func (r *run) drain(when string) {
	for range restMost {
		if r.failed() {
			return
		}
		if moves := r.work(); len(moves) > 0 {
			r.happen(moves[r.rand.IntN(len(moves))])
			continue
		}
		next, some := r.daemon.stage.next()
		if !some {
			for _, x := range r.checks.waiting() {
				r.violation("%s: nothing is owed, and %s has no answer", when, x)
			}
			return
		}
		r.uptime = max(r.uptime, next)
	}
	r.violation("%s: it does not come to rest within %d steps", when, restMost)
}

// live has the kubelet run a pod of each kind, now that nothing fails: it must get ready,
// and its container must run.
func (r *run) live() {
	for i, w := range workloads {
		if r.failed() {
			return
		}
		s := id.Sandbox(r.kubelet.newID("live"))
		run := sandbox.Run{ID: s, Name: sandbox.Name{Name: w.name, UID: w.uid, Attempt: 100}, HostNetwork: w.hostNetwork, SharedPID: w.sharedPID, At: r.wall()}
		r.happen(move{kind: "call", of: "RunPodSandbox " + string(s), do: func() { r.kubelet.doRun(run, true) }})
		r.succeeds(string(s), "RunPodSandbox")
		c := id.Container(r.kubelet.newID("live"))
		create := container.Create{ID: c, Sandbox: s, Name: container.Name{Name: "main", Attempt: uint32(i)}, StopSignal: "SIGTERM", At: r.wall()}
		r.happen(move{kind: "call", of: "CreateContainer " + string(c), do: func() { r.kubelet.doCreate(create, true) }})
		r.succeeds(string(c), "CreateContainer")
		r.happen(r.kubelet.askContainer("StartContainer", c, container.Start{At: r.wall()}, container.StartAnswer))
		r.succeeds(string(c), "StartContainer")
	}
}

// succeeds waits for the answer to a call, which must not be an error.
func (r *run) succeeds(of, what string) {
	r.drain("after a " + what)
	if err, answered := r.kubelet.results[of]; !r.failed() && (!answered || err != nil) {
		r.violation("%s %s: %v (answered %t), although nothing fails", what, of, err, answered)
	}
	delete(r.kubelet.results, of)
}

// endPods has the kubelet ask for the end of every pod.
func (r *run) endPods() {
	r.askAll("StopPodSandbox", sandbox.Stop{}, sandbox.StopAnswer)
	r.askAll("RemovePodSandbox", sandbox.Remove{}, sandbox.RemoveAnswer)
}

func (r *run) askAll(what string, c sandbox.Command, until entity.Answer[sandbox.State, sandbox.Event]) {
	for _, s := range sortedKeys(r.view.Sandboxes) {
		if r.failed() {
			return
		}
		// A pod that was removed is listed again if the log cannot be read that far.
		gone := sandbox.NameFree(r.view.Sandboxes[s].State) && !r.checks.damaged("sandbox/"+string(s))
		if gone || r.view.closed["sandbox/"+eventlog.Stream(s)] {
			continue
		}
		name := fmt.Sprintf("%s %s", what, s)
		r.happen(move{kind: "call", of: name, do: func() {
			ask(r, name, until, func(from node.Caller[sandbox.State, sandbox.Event]) { r.daemon.core.Sandbox(s, c, from) },
				func(_ sandbox.State, err error) {
					if err != nil {
						r.violation("%s: %v, although nothing fails", name, err)
					}
				})
		}})
	}
	r.drain("after a " + what + " for each pod")
}

// damageOne makes the stream of a pod or container unreadable for the next daemon.
func (r *run) damageOne() {
	var all []eventlog.Stream
	for _, s := range sortedKeys(r.view.Sandboxes) {
		all = append(all, eventlog.Stream("sandbox/"+s))
	}
	for _, c := range sortedKeys(r.view.Containers) {
		all = append(all, eventlog.Stream("container/"+c))
	}
	if len(all) > 0 {
		stream := pick(r, all)
		good := eventlog.Version(r.rand.IntN(int(r.view.version(stream))))
		r.log.damaged[stream] = good
		r.note("--- %s is damaged behind version %d", stream, good)
	}
}
