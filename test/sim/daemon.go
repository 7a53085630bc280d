package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/node"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/keeper"
)

// daemon is what dies in a crash: the actors, the effects under way and the callers. The node
// and its entities are production's.
type daemon struct {
	run    *run
	stage  *stage
	core   *node.Core
	ctx    context.Context
	cancel context.CancelFunc
	// execs and pulls are those of this daemon's callers that have not ended. What another
	// daemon left under way is not repeated.
	execs map[id.Exec]bool
	pulls map[id.Pull]bool
	// callers wait for an answer; asking counts them by name.
	callers map[*caller]bool
	asking  map[string]int
	// reporting are the exits that are on their way from the monitor.
	reporting map[*exit]bool
	// serving: the boot is over.
	serving bool
	// keeper is made when it is first needed.
	keeper *keeper.Keeper
	tries  map[string]*tries
}

// tries counts how often an effect was executed without any time passing.
type tries struct {
	at, calls, n int
}

func newDaemon(r *run) *daemon {
	d := &daemon{
		run: r, stage: newStage(r),
		execs: map[id.Exec]bool{}, pulls: map[id.Pull]bool{},
		callers: map[*caller]bool{}, asking: map[string]int{}, reporting: map[*exit]bool{}, tries: map[string]*tries{},
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	machines := node.NewMachines(executor{d})
	unsteady(r, machines.Sandboxes)
	unsteady(r, machines.Containers)
	unsteady(r, machines.Images)
	d.core = node.NewCore(d.stage.post, machines, entity.Surroundings{
		Log: r.log, Logger: r.logger, Context: d.ctx, Now: r.wall,
		Go: d.stage.begin, After: d.stage.after, Held: func(time.Duration) {},
	})
	return d
}

// boot gives the daemon its past.
func (d *daemon) boot(past entity.Past) {
	start := host.StartDaemon{BootID: bootID(d.run.world.boot), At: d.run.wall()}
	d.core.Boot(past, start, func(error) {
		d.core.Resume(past, start)
		d.serving = true
	})
}

// report takes one of the monitor's reports and acknowledges it once it is durable.
func (d *daemon) report(x *exit) {
	d.reporting[x] = true
	name := string(x.container) + string(x.sandbox)
	at := container.Exit{Code: x.code, At: d.run.wall(), Unknown: x.unknown}
	d.core.Exited(name, x.process, at, func(err error) {
		if err != nil {
			d.stage.after(time.Second, func() { delete(d.reporting, x) })
			return
		}
		delete(d.reporting, x)
		if !d.run.faults.repeats() {
			d.run.world.acknowledge(x)
		}
	})
}

// executor carries out effects in the world.
type executor struct{ *daemon }

var errInterrupted = errors.New("the daemon ended before the command did")

// try counts an execution, finishes what an earlier daemon left of it, and carries it out.
func (x executor) try(stream string, f interface{ Key() string }, work func() error) error {
	r := x.run
	r.finishOrphans(stream)
	key := f.Key() + " of " + stream
	t := x.tries[key]
	if t == nil || t.at != int(r.uptime) {
		t = &tries{at: int(r.uptime), calls: r.kubelet.calls}
		x.tries[key] = t
	}
	if t.n++; t.n > 2+r.kubelet.calls-t.calls {
		r.violation("%s is tried again and again without a pause", key)
	}
	if x.ctx.Err() != nil && r.rand.IntN(2) == 0 {
		return x.ctx.Err()
	}
	if r.faults.stuck(key) {
		return errBroken
	}
	if r.faults.trouble() && r.rand.IntN(300) == 0 {
		panic("a driver has a bug")
	}
	err := work()
	if err == nil {
		err = x.ctx.Err()
	}
	return err
}

func (x executor) Sandbox(_ context.Context, f sandbox.Effect) sandbox.Command {
	w, now := x.run.world, x.run.wall()
	var err error
	switch f := f.(type) {
	case sandbox.PrepareSandbox:
		err = x.try("sandbox/"+string(f.Pod.ID), f, func() error { return w.prepare(f.Pod.ID) })
	case sandbox.AttachNetwork:
		err = x.try("sandbox/"+string(f.Pod.ID), f, func() error { return w.attach(f.Pod.ID) })
		if err == nil {
			return sandbox.AttachNetworkDone{IPs: []string{"10.1.0.2"}}
		}
	case sandbox.StartHolder:
		pid := 0
		err = x.try("sandbox/"+string(f.Pod.ID), f, func() (err error) {
			pid, err = w.startHolder(f.Pod.ID)
			return err
		})
		if err == nil {
			return sandbox.StartHolderDone{PID: pid}
		}
	case sandbox.StopHolder:
		err = x.try("sandbox/"+string(f.Pod.ID), f, func() error { return w.stopHolder(f.Pod.ID) })
	case sandbox.DetachNetwork:
		w.pod(f.Pod.ID).detachTried = true
		err = x.try("sandbox/"+string(f.Pod.ID), f, func() error { return w.detach(f.Pod.ID) })
	case sandbox.ReleaseSandbox:
		err = x.try("sandbox/"+string(f.Pod.ID), f, func() error { return w.release(f.Pod.ID) })
	case sandbox.StopContainer, sandbox.RemoveContainer:
		x.run.violation("%s is for another entity, and came to a driver", f.Key())
	}
	return f.Failed(err, now)
}

func (x executor) Container(_ context.Context, f container.Effect) container.Command {
	w, now := x.run.world, x.run.wall()
	try := func(spec container.Spec, work func() error) error {
		return x.try("container/"+string(spec.ID), f, work)
	}
	var err error
	switch f := f.(type) {
	case container.PrepareRootfs:
		err = try(f.Spec, func() error { return w.prepareRootfs(f.Spec.ID, f.Spec.Sandbox) })
	case container.CreateRuntime:
		var p container.Process
		shared := x.run.view.Sandboxes[f.Spec.Sandbox].State.SharedPID
		err = try(f.Spec, func() (err error) {
			p, err = w.createRuntime(f.Spec.ID, shared)
			return err
		})
		if err == nil {
			return container.CreateRuntimeDone{Process: p, SharedPIDs: shared}
		}
	case container.StartRuntime:
		err = try(f.Spec, func() error { return w.startRuntime(f.Spec.ID) })
	case container.SignalStop:
		err = try(f.Spec, func() error { return w.signal(f.Spec.ID) })
	case container.Kill:
		err = try(f.Spec, func() error { return w.kill(f.Spec.ID) })
	case container.Execute:
		err = errInterrupted
		if x.execs[f.Exec] {
			delete(x.execs, f.Exec)
			err = try(f.Spec, func() error { return w.exec(f.Spec.ID, f.Exec) })
		}
	case container.UpdateRuntime:
		err = try(f.Spec, func() error { return w.update(f.Spec.ID, f.Update, string(f.Change)) })
		if err == nil {
			return container.UpdateRuntimeDone{Update: f.Update, Resources: f.Change}
		}
	case container.RotateLog:
		err = x.try("container/"+string(f.Spec.ID), reopening(f), func() error { return w.attempt(func() {}) })
	case container.DeleteRuntime:
		err = try(f.Spec, func() error { return w.deleteRuntime(f.Spec.ID) })
	case container.ReleaseRootfs:
		err = try(f.Spec, func() error { return w.releaseRootfs(f.Spec.ID) })
	case container.AwaitGrace:
	}
	return f.Failed(err, now)
}

func (x executor) Image(_ context.Context, f image.Effect) image.Command {
	w := x.run.world
	var err error
	switch f := f.(type) {
	case image.FetchImage:
		err = errInterrupted
		if x.pulls[f.Pull] {
			delete(x.pulls, f.Pull)
			err = x.try("image/"+f.Ref, f, func() error { return w.fetch(f.Ref, f.Pull) })
		}
		if err == nil {
			return image.FetchImageDone{Pull: f.Pull, ImageID: "of " + f.Ref}
		}
	case image.LoadImages:
		err = x.try("image/"+f.Ref, f, func() error { return w.attempt(func() { w.images[f.Ref] = true }) })
	case image.DeleteImage:
		err = x.try("image/"+f.Ref, f, func() error { return w.attempt(func() { delete(w.images, f.Ref) }) })
	}
	return f.Failed(err, x.run.wall())
}

// reopening is a RotateLog by itself: each is tried once.
type reopening container.RotateLog

// Key tells one from another.
func (f reopening) Key() string { return fmt.Sprintf("rotate log %d", f.Reopen) }

// unsteady makes the functions of a machine panic now and then.
func unsteady[S, C, E any, F entity.Effect[C]](r *run, m *entity.Machine[S, C, E, F]) {
	decide, evolve, owed := m.Decide, m.Evolve, m.Owed
	m.Decide = func(s S, c C) ([]E, error) { r.faults.mayPanic("decide"); return decide(s, c) }
	m.Evolve = func(s S, e E) S { r.faults.mayPanic("evolve"); return evolve(s, e) }
	m.Owed = func(s S) []F { r.faults.mayPanic("owed"); return owed(s) }
}

// outlives reports whether an effect goes on when the daemon is killed: the runtime runs
// under the monitor.
func outlives(name string) bool {
	key, of, _ := strings.Cut(name, " of ")
	switch key {
	case "create", "start", "update", "signal", "kill", "delete":
		return strings.HasPrefix(of, "container/")
	}
	return false
}

// streamOf is the stream in a task's name.
func streamOf(task string) string {
	_, of, _ := strings.Cut(task, " of ")
	return of
}
