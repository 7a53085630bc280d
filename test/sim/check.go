package sim

import (
	"slices"
	"strings"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// checks find what should not be.
type checks struct {
	*run
	// exits is how containers ended; it must never change.
	exits map[id.Container]container.Exit
	// over are the pods and containers that are gone, and must not come back before the
	// node loses power.
	over map[string]bool
	// asked is the daemon that was asked for each container.
	asked map[id.Container]*daemon
}

// observe checks what a record claims, when it becomes durable.
func (r *checks) observe(record eventlog.Record, event any) {
	_, name, _ := strings.Cut(string(record.Stream), "/")
	switch e := event.(type) {
	case container.ContainerRequested:
		r.asked[e.ID] = r.daemon
	case container.ContainerCreated:
		if c := id.Container(name); r.asked[c] != r.daemon {
			r.violation("%s is made by a daemon that nobody has asked for it", c)
		}
	case container.ContainerExited:
		c := id.Container(name)
		if r.view.exits[c]++; r.view.exits[c] > 1 {
			r.violation("the exit of %s is recorded twice", c)
		}
		p := r.world.box(c).init
		if p != nil && p.alive {
			r.violation("%s is said to have ended, and lives", c)
		}
		if e.Exit.Unknown == "" && p != nil && p.code != e.Exit.Code {
			r.violation("%s is said to have ended with %d, and ended with %d", c, e.Exit.Code, p.code)
		}
	case host.StreamClosed:
		r.view.closed[eventlog.Stream(e.Stream)] = true
	case container.ResourcesUpdated:
		r.world.box(id.Container(name)).unknown = false
	case container.KillRequested:
		if c := id.Container(name); !r.mayBeKilled(c) {
			r.violation("%s is killed, and nobody wants that any more", c)
		}
	}
}

// mayBeKilled reports whether a caller wants the container to end at once by now.
func (r *checks) mayBeKilled(c id.Container) bool {
	s := r.view.Containers[c].State
	pod, there := r.view.Sandboxes[s.Sandbox]
	switch {
	case !there, r.damaged("sandbox/" + string(s.Sandbox)), pod.State.Phase != sandbox.Ready, s.Phase != container.Running && s.Phase != container.Starting:
		return true
	}
	return slices.ContainsFunc(r.kubelet.stops[c], func(x *stopCall) bool { return !x.withdrawn })
}

// check tests what must hold whenever the daemon is up.
func (r *checks) check() {
	names := map[sandbox.Name]bool{}
	boot := bootID(r.world.boot)
	for s, at := range r.view.Sandboxes {
		state := at.State
		r.remember("sandbox/"+string(s), state.Phase == sandbox.Removed || state.Phase == sandbox.Failed)
		if !sandbox.NameFree(state) {
			if names[state.Name] {
				r.violation("two sandboxes are called %s", state.Name.Name)
			}
			names[state.Name] = true
		}
		if at.BootID == boot && !r.damaged("sandbox/"+string(s)) {
			r.checkSandbox(s, state)
		}
	}
	for c, at := range r.view.Containers {
		r.remember("container/"+string(c), at.State.Phase == container.Removed || at.State.Phase == container.Failed)
		r.checkExit(c, at.State)
		if at.BootID == boot && !r.damaged("container/"+string(c)) {
			r.checkContainer(c, at.State)
		}
	}
}

func (r *checks) checkSandbox(s id.Sandbox, state sandbox.State) {
	p := r.world.pod(s)
	switch state.Phase {
	case sandbox.Ready:
		if !p.dirs || !p.namespaces || !state.HostNetwork && !p.address {
			r.violation("%s is ready, and something is missing: %+v", s, *p)
		}
	case sandbox.Removed, sandbox.Failed:
		if p.dirs || p.namespaces || p.holder != nil {
			r.violation("%s is %s, and something is left: %+v", s, state.Phase, *p)
		}
	}
	switch state.Phase {
	case sandbox.Stopped, sandbox.Removing, sandbox.Removed, sandbox.Failed:
		if r.world.lives(s) {
			r.violation("%s is %s, and a process of it lives", s, state.Phase)
		}
	}
}

// checkExit finds an exit that is reported differently than before.
func (r *checks) checkExit(c id.Container, state container.State) {
	if known, ended := r.exits[c]; ended && state.Run.Exit != known {
		r.violation("%s had ended with %+v, and now with %+v", c, known, state.Run.Exit)
	}
	if state.Run.ExitSeen || state.Phase == container.Exited {
		r.exits[c] = state.Run.Exit
	}
}

func (r *checks) checkContainer(c id.Container, state container.State) {
	b := r.world.box(c)
	if state.Phase == container.Exited && b.others && len(container.Owed(state)) == 0 {
		r.violation("%s is exited and owes nothing, and others of its processes live", c)
	}
	if b.started && (state.Phase == container.Unwinding || state.Phase == container.Failed) {
		r.violation("the program of %s has run, and is said to be none: it is %s", c, state.Phase)
	}
	if set := string(state.Resources.InForce); len(state.Resources.Pending) == 0 && b.init != nil && !b.unknown && set != b.limits {
		r.violation("%s has the limits %q, and is said to have %q", c, b.limits, set)
	}
	switch state.Phase {
	case container.Running:
		if !(b.init != nil && b.init.alive) && !r.reported(c) {
			r.violation("%s runs, and its process is gone without a report", c)
		}
	case container.Removed, container.Failed:
		if b.rootfs || b.init != nil {
			r.violation("%s is %s, and something is left: %+v", c, state.Phase, *b)
		}
	}
}

// remember finds pods and containers that were gone and are back.
func (r *checks) remember(name string, over bool) {
	if r.over[name] && !over {
		r.violation("%s was gone, and is back", name)
	}
	if over {
		r.over[name] = true
	}
}

// reported: the monitor's journal holds the exit of the container.
func (r *checks) reported(c id.Container) bool {
	return slices.ContainsFunc(r.world.journal, func(x *exit) bool { return x.container == c })
}

// damaged reports whether nobody can know the state of a stream's entity.
func (r *checks) damaged(stream string) bool {
	_, is := r.log.damaged[eventlog.Stream(stream)]
	return is
}

// waiting are the callers that have no answer.
func (r *checks) waiting() []string {
	var names []string
	for x := range r.daemon.callers {
		names = append(names, x.name)
	}
	slices.Sort(names)
	return names
}

// checkEnd tests that everything has ended and nothing is left.
func (r *checks) checkEnd() {
	if r.failed() {
		return
	}
	for _, s := range sortedKeys(r.view.Sandboxes) {
		if at := r.view.Sandboxes[s]; !sandbox.Ended(at.State) && !r.view.closed["sandbox/"+eventlog.Stream(s)] {
			r.violation("%s has not ended: it is %q", s, at.State.Phase)
		}
	}
	for _, c := range sortedKeys(r.view.Containers) {
		if at := r.view.Containers[c]; !container.Ended(at.State) && !r.view.closed["container/"+eventlog.Stream(c)] {
			r.violation("%s has not ended: it is %q", c, at.State.Phase)
		}
	}
	for _, stream := range r.view.lives.unfinished() {
		if !r.view.closed[stream] {
			r.violation("%s has ended, and a subscriber knows no more than %v", stream, r.view.lives[stream])
		}
	}
	for _, left := range r.world.left() {
		r.violation("left on the node: %s", left)
	}
}
