package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// workload is a pod that the kubelet wants to run.
type workload struct {
	name                   string
	hostNetwork, sharedPID bool
}

var workloads = []workload{{name: "web"}, {name: "db", sharedPID: true}, {name: "agent", hostNetwork: true}}

// stopCall is a StopContainer whose caller could go away.
type stopCall struct {
	container id.Container
	request   string
}

func (r *run) newID(kind string) string {
	r.lastID++
	return fmt.Sprintf("%s%d", kind, r.lastID)
}

func pick[T any](r *run, from []T) T { return from[r.rand.IntN(len(from))] }

// prefer picks one that suits, if there is one and chance doesn't want another.
func prefer[T any](r *run, all []T, suits func(T) bool) T {
	suited := slices.DeleteFunc(slices.Clone(all), func(x T) bool { return !suits(x) })
	if len(suited) == 0 || r.rand.IntN(5) == 0 {
		return pick(r, all)
	}
	return pick(r, suited)
}

// call draws what the kubelet, or a user of crictl, asks for next: mostly what
// makes sense now, at times what doesn't.
func (r *run) call() move {
	n := r.rand.IntN(40)
	switch {
	case len(r.daemon.sandboxes) == 0 || n < 4:
		return r.runPod(pick(r, workloads))
	case n < 5:
		return r.askSandbox("StopPodSandbox", r.sandbox(sandbox.Ready), sandbox.Stop{}, sandbox.StopAnswer)
	case n < 6:
		return r.askSandbox("RemovePodSandbox", r.sandbox(sandbox.Stopped), sandbox.Remove{}, sandbox.RemoveAnswer)
	case len(r.daemon.containers) == 0 || n < 13:
		return r.create(r.sandbox(sandbox.Ready))
	case n < 24:
		return r.askContainer("StartContainer", r.container(container.Created), container.Start{}, container.StartAnswer)
	case n < 28:
		return r.stop(r.container(container.Running))
	case n < 30:
		return r.askContainer("RemoveContainer", r.container(container.Exited), container.Remove{}, container.RemoveAnswer)
	case n < 35:
		return r.exec(r.container(container.Running))
	case n < 38 && len(r.stops) > 0:
		return r.withdraw(pick(r, r.stops))
	default:
		return r.askContainer("ReopenContainerLog", r.container(container.Running), container.ReopenLog{}, container.ReopenAnswer)
	}
}

// sandbox picks one, most often one in the phase.
func (r *run) sandbox(in sandbox.Phase) id.Sandbox {
	all := sortedKeys(r.daemon.sandboxes)
	return prefer(r, all, func(s id.Sandbox) bool { return r.daemon.sandboxes[s].state.Phase == in })
}

// container picks one, most often one in the phase.
func (r *run) container(in container.Phase) id.Container {
	all := sortedKeys(r.daemon.containers)
	return prefer(r, all, func(c id.Container) bool { return r.daemon.containers[c].state.Phase == in })
}

func (r *run) runPod(w workload) move {
	c := sandbox.Run{
		ID: id.Sandbox(r.newID("p")), Name: sandbox.Name{Name: w.name, UID: "u"}, ConfigDigest: w.name,
		HostNetwork: w.hostNetwork, SharedPID: w.sharedPID, At: r.now,
	}
	if r.rand.IntN(20) == 0 {
		c.ConfigDigest = "another"
	}
	return move{fmt.Sprintf("RunPodSandbox %s as %s", w.name, c.ID), func() { r.daemon.runSandbox(c) }}
}

func (r *run) create(s id.Sandbox) move {
	c := container.Create{
		ID: id.Container(r.newID("c")), Sandbox: s, Name: container.Name{Name: pick(r, []string{"main", "sidecar"})},
		ConfigDigest: "d", StopSignal: "SIGTERM", At: r.now,
	}
	return move{fmt.Sprintf("CreateContainer %s in %s as %s", c.Name.Name, s, c.ID), func() { r.daemon.createContainer(c) }}
}

func (r *run) askSandbox(what string, s id.Sandbox, c sandbox.Command, until answer[sandbox.State, sandbox.Event]) move {
	name := fmt.Sprintf("%s %s", what, s)
	return move{name, func() { r.daemon.sandboxes[s].ask(c, until, r.daemon.call(name)) }}
}

func (r *run) askContainer(what string, c id.Container, command container.Command, until answer[container.State, container.Event]) move {
	name := fmt.Sprintf("%s %s", what, c)
	return move{name, func() { r.daemon.containers[c].ask(command, until, r.daemon.call(name)) }}
}

func (r *run) stop(c id.Container) move {
	s := stopCall{container: c, request: r.newID("s")}
	grace := time.Duration(pick(r, []int{0, 5, 30})) * time.Second
	// The waiter of a caller that went away is dismissed by the next event.
	until := func(state container.State, e container.Event) (bool, error) {
		if r.gone[s.request] {
			return true, nil
		}
		return container.StopAnswer(state, e)
	}
	return move{fmt.Sprintf("StopContainer %s with %v of grace as %s", c, grace, s.request), func() {
		r.stops = append(r.stops, s)
		command := container.Stop{Request: s.request, Grace: grace, At: r.now}
		r.daemon.containers[c].ask(command, until, r.daemon.call("StopContainer "+s.request))
	}}
}

func (r *run) withdraw(s stopCall) move {
	return move{fmt.Sprintf("the caller of %s goes away", s.request), func() {
		r.gone[s.request] = true
		r.daemon.containers[s.container].ask(container.WithdrawStop{Request: s.request}, nil, nil)
	}}
}

func (r *run) exec(c id.Container) move {
	x := id.Exec(r.newID("x"))
	name := fmt.Sprintf("ExecSync %s in %s", x, c)
	return move{name, func() {
		r.daemon.execs[x] = true
		r.daemon.containers[c].ask(container.RunExec{Exec: x, Command: []string{"true"}}, container.ExecAnswer(x), r.daemon.call(name))
	}}
}
