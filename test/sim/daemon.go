package sim

import (
	"errors"
	"fmt"
	"strings"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

type (
	sandboxEntity   = entity[sandbox.State, sandbox.Command, sandbox.Event, sandbox.Effect]
	containerEntity = entity[container.State, container.Command, container.Event, container.Effect]
)

// daemon is what dies in a crash: the entities' memory, what is under way, and who
// waits. It routes as actors/node does.
type daemon struct {
	run   *run
	world *world
	log   *history

	sandboxes      map[id.Sandbox]*sandboxEntity
	containers     map[id.Container]*containerEntity
	sandboxMachine *machine[sandbox.State, sandbox.Command, sandbox.Event, sandbox.Effect]
	boxMachine     *machine[container.State, container.Command, container.Event, container.Effect]
	// tasks is what is under way.
	tasks []*task
	// barred are containers that must not come to be: their pod was stopped before
	// their creation arrived.
	barred map[id.Container]bool
	// execs are the commands that a caller of this daemon asked for. What another
	// one left under way is not run again.
	execs map[id.Exec]bool
	// unanswered counts the callers that wait.
	unanswered int
}

// task is something under way that will happen at some time.
type task struct {
	name string
	// writes: it cannot happen while the log is full.
	writes bool
	do     func()
}

func (d *daemon) later(name string, writes bool, do func()) {
	d.tasks = append(d.tasks, &task{name, writes, do})
}

func newDaemon(r *run) *daemon {
	d := &daemon{
		run: r, world: r.world, log: r.log,
		sandboxes: map[id.Sandbox]*sandboxEntity{}, containers: map[id.Container]*containerEntity{},
		barred: map[id.Container]bool{}, execs: map[id.Exec]bool{},
	}
	d.sandboxMachine = &machine[sandbox.State, sandbox.Command, sandbox.Event, sandbox.Effect]{
		decide: sandbox.Decide, evolve: sandbox.Evolve, owed: sandbox.Owed, announced: sandbox.Announced, volatile: sandbox.Volatile,
		encode: codec.EncodeSandbox, decode: codec.DecodeSandbox,
		issue: d.issueSandbox, evolved: func(string, sandbox.State, sandbox.Event) {},
	}
	d.boxMachine = &machine[container.State, container.Command, container.Event, container.Effect]{
		decide: container.Decide, evolve: container.Evolve, owed: container.Owed, announced: container.Announced, volatile: container.Volatile,
		encode: codec.EncodeContainer, decode: codec.DecodeContainer,
		issue: d.issueContainer, evolved: d.containerEvolved,
	}
	return d
}

// boot gives the daemon its past, tells everything whose last event is of an
// earlier boot that the node was rebooted, and lets sandboxes forget containers
// that are gone.
func (d *daemon) boot() {
	for _, stream := range d.log.streams() {
		kind, name, _ := strings.Cut(string(stream), "/")
		if kind == "sandbox" {
			e := newEntity(d, d.sandboxMachine, stream)
			e.restore()
			d.sandboxes[id.Sandbox(name)] = e
		} else {
			e := newEntity(d, d.boxMachine, stream)
			e.restore()
			d.containers[id.Container(name)] = e
		}
	}
	now := bootID(d.world.boot)
	for _, s := range sortedKeys(d.sandboxes) {
		if e := d.sandboxes[s]; e.place.boot != now {
			e.ask(sandbox.NodeRebooted{}, nil, nil)
		}
	}
	for _, c := range sortedKeys(d.containers) {
		if e := d.containers[c]; e.place.boot != now {
			e.ask(container.NodeRebooted{At: d.run.now}, nil, nil)
		}
	}
	for _, s := range sortedKeys(d.sandboxes) {
		for _, c := range d.sandboxes[s].state.ContainerIDs() {
			if e := d.containers[c]; e == nil || container.NameFree(e.state) {
				d.forget(s, c)
			}
		}
	}
}

func (d *daemon) forget(s id.Sandbox, c id.Container) {
	d.later(fmt.Sprintf("tell %s that %s is gone", s, c), true, func() {
		d.sandboxes[s].ask(sandbox.ForgetContainer{Container: c}, nil, nil)
	})
}

// call counts a caller until it has its answer.
func (d *daemon) call(name string) func(error) {
	d.unanswered++
	return func(err error) {
		d.unanswered--
		d.run.note("    %s: %v", name, err)
	}
}

// runSandbox creates a sandbox, or joins the one that has its name.
func (d *daemon) runSandbox(c sandbox.Run) {
	reply := d.call("RunPodSandbox " + string(c.ID))
	for _, s := range sortedKeys(d.sandboxes) {
		if e := d.sandboxes[s]; e.state.Name == c.Name && !sandbox.NameFree(e.state) {
			e.ask(c, sandbox.RunAnswer, reply)
			return
		}
	}
	e := newEntity(d, d.sandboxMachine, eventlog.Stream("sandbox/"+c.ID))
	if !d.log.full {
		d.sandboxes[c.ID] = e
	}
	e.ask(c, sandbox.RunAnswer, reply)
}

// createContainer creates a container, or joins the one that has its name. The
// sandbox learns of it first; the creation arrives later, if at all.
func (d *daemon) createContainer(c container.Create) {
	reply := d.call("CreateContainer " + string(c.ID))
	for _, other := range sortedKeys(d.containers) {
		e := d.containers[other]
		if e.state.Sandbox == c.Sandbox && e.state.Name == c.Name && !container.NameFree(e.state) {
			e.ask(c, container.CreateAnswer, reply)
			return
		}
	}
	d.sandboxes[c.Sandbox].ask(sandbox.AddContainer{Container: c.ID}, nil, func(err error) {
		if err != nil {
			reply(err)
			return
		}
		d.later("create "+string(c.ID), true, func() {
			if d.barred[c.ID] {
				reply(fault.New(fault.Precondition, "create container", string(c.ID), "its pod sandbox is being stopped"))
				return
			}
			e := newEntity(d, d.boxMachine, eventlog.Stream("container/"+c.ID))
			d.containers[c.ID] = e
			e.ask(c, container.CreateAnswer, reply)
		})
	})
}

// exited takes the monitor's oldest report and acknowledges it once it is durable.
func (d *daemon) exited() {
	x := d.world.journal[0]
	if e := d.containers[x.container]; e != nil {
		e.ask(container.RecordExit{Exit: container.Exit{Code: x.code, At: d.run.now}}, nil, nil)
	}
	if e := d.sandboxes[x.sandbox]; e != nil {
		e.ask(sandbox.HolderExited{Code: x.code, At: d.run.now}, nil, nil)
	}
	d.run.point()
	d.world.journal = d.world.journal[1:]
}

func (d *daemon) issueSandbox(f sandbox.Effect, outcome func(sandbox.Command)) {
	w, now := d.world, d.run.now
	switch f := f.(type) {
	case sandbox.PrepareSandbox:
		outcome(sandbox.PrepareSandboxDone{Err: w.prepare(f.Pod.ID)})
	case sandbox.AttachNetwork:
		outcome(sandbox.AttachNetworkDone{IPs: []string{"10.1.0.2"}, Err: w.attach(f.Pod.ID)})
	case sandbox.StartHolder:
		pid, err := w.startHolder(f.Pod.ID)
		outcome(sandbox.StartHolderDone{PID: pid, Err: err})
	case sandbox.StopContainer:
		done := func(err error) { outcome(sandbox.StopContainerDone{Container: f.Container, Err: err, At: d.run.now}) }
		e := d.containers[f.Container]
		if e == nil {
			d.barred[f.Container] = true
			done(nil)
			return
		}
		e.ask(container.Stop{Request: "sandbox", At: now}, container.StopAnswer, done)
	case sandbox.RemoveContainer:
		done := func(err error) { outcome(sandbox.RemoveContainerDone{Container: f.Container, Err: err, At: d.run.now}) }
		e := d.containers[f.Container]
		if e == nil {
			done(nil)
			return
		}
		e.ask(container.Remove{}, container.RemoveAnswer, done)
	case sandbox.StopHolder:
		outcome(sandbox.StopHolderDone{Err: w.stopHolder(f.Pod.ID), At: now})
	case sandbox.DetachNetwork:
		outcome(sandbox.DetachNetworkDone{Err: w.detach(f.Pod.ID), At: now})
	case sandbox.ReleaseSandbox:
		outcome(sandbox.ReleaseSandboxDone{Err: w.release(f.Pod.ID), At: now})
	}
}

var errInterrupted = errors.New("the daemon ended before the command did")

func (d *daemon) issueContainer(f container.Effect, outcome func(container.Command)) {
	w, now := d.world, d.run.now
	switch f := f.(type) {
	case container.PrepareRootfs:
		outcome(container.PrepareRootfsDone{Err: w.prepareRootfs(f.Spec.ID, f.Spec.Sandbox)})
	case container.CreateRuntime:
		sharedPID := d.sandboxes[f.Spec.Sandbox].state.SharedPID
		p, err := w.createRuntime(f.Spec.ID, sharedPID)
		outcome(container.CreateRuntimeDone{Process: p, Err: err})
	case container.StartRuntime:
		outcome(container.StartRuntimeDone{Err: w.startRuntime(f.Spec.ID), At: now})
	case container.SignalStop:
		outcome(container.SignalStopDone{Err: w.signal(f.Spec.ID), At: now})
	case container.AwaitGrace:
		outcome(container.AwaitGraceDone{Deadline: f.Deadline})
	case container.Kill:
		outcome(container.KillDone{Err: w.kill(f.Spec.ID), At: now})
	case container.Execute:
		err := errInterrupted
		if d.execs[f.Exec] {
			err = w.exec(f.Spec.ID, f.Exec)
		}
		outcome(container.ExecuteDone{Exec: f.Exec, Err: err})
	case container.RotateLog:
		outcome(container.RotateLogDone{Reopen: f.Reopen, Err: w.attempt(func() {})})
	case container.DeleteRuntime:
		outcome(container.DeleteRuntimeDone{Err: w.deleteRuntime(f.Spec.ID), At: now})
	case container.ReleaseRootfs:
		outcome(container.ReleaseRootfsDone{Err: w.releaseRootfs(f.Spec.ID), At: now})
	}
}

// containerEvolved checks what an event claims, and spreads what others must know.
func (d *daemon) containerEvolved(name string, s container.State, e container.Event) {
	switch e := e.(type) {
	case container.ContainerExited:
		if d.recordedExits(s.ID) > 1 {
			d.world.violation("the exit of %s is recorded twice", name)
		}
		p := d.world.box(s.ID).init
		if p != nil && p.alive {
			d.world.violation("%s is said to have ended, and lives", name)
		}
		if e.Exit.Unknown == "" && p != nil && p.code != e.Exit.Code {
			d.world.violation("%s is said to have ended with %d, and ended with %d", name, e.Exit.Code, p.code)
		}
	case container.ContainerFailed, container.ContainerRemoved:
		d.forget(s.Sandbox, s.ID)
	}
}

func (d *daemon) recordedExits(c id.Container) (n int) {
	events(d.log, eventlog.Stream("container/"+c), 0, codec.DecodeContainer, func(e container.Event, _ place) {
		if _, exited := e.(container.ContainerExited); exited {
			n++
		}
	})
	return n
}
