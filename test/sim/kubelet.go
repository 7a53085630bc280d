package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/node"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// workload is a pod that the kubelet wants to run. Two of them have one name, and
// differ in their uid.
type workload struct {
	name, uid              string
	hostNetwork, sharedPID bool
}

var workloads = []workload{
	{name: "web", uid: "u1"}, {name: "web", uid: "u2"},
	{name: "db", uid: "u", sharedPID: true}, {name: "agent", uid: "u", hostNetwork: true},
}

var images = []string{"web:1", "db:1"}

// caller waits for the answer to a call.
type caller struct {
	name string
	gone chan struct{}
	// stop is the StopContainer that is withdrawn when the caller goes away.
	stop *stopCall
}

// stopCall is a StopContainer.
type stopCall struct {
	container id.Container
	request   string
	deadline  time.Time
	withdrawn bool
}

// kubelet asks for whatever it may ask for.
type kubelet struct {
	*run
	lastID, calls int
	// stops are the stops that were asked for, results the last answers.
	stops   map[id.Container][]*stopCall
	results map[string]error
}

func (r *kubelet) newID(kind string) string {
	r.lastID++
	return fmt.Sprintf("%s%d", kind, r.lastID)
}

func pick[T any](r *run, from []T) T { return from[r.rand.IntN(len(from))] }

// prefer picks one that suits, if there is one and the draw does not say otherwise.
func prefer[T any](r *run, all []T, suits func(T) bool) T {
	suited := slices.DeleteFunc(slices.Clone(all), func(x T) bool { return !suits(x) })
	if len(suited) == 0 || r.rand.IntN(5) == 0 {
		return pick(r, all)
	}
	return pick(r, suited)
}

// ask makes a call of the kubelet's: it is answered once, or its caller goes away.
func ask[S, E any](r *run, name string, until entity.Answer[S, E], call func(node.Caller[S, E]), answered func(S, error)) *caller {
	r.kubelet.calls++
	d, x := r.daemon, &caller{name: name, gone: make(chan struct{})}
	d.callers[x] = true
	from := node.Caller[S, E]{Gone: x.gone, Reply: func(reply entity.Reply[S]) {
		if !d.callers[x] {
			select {
			case <-x.gone: // The answer crossed the caller's way out.
			default:
				r.violation("%s is answered twice", name)
			}
			return
		}
		delete(d.callers, x)
		r.note("    %s: %v", name, reply.Err)
		if answered != nil && !d.stage.dead {
			answered(reply.State, reply.Err)
		}
	}}
	if until != nil {
		from.Until = func(s S, e E) (bool, error) { r.faults.mayPanic("answer"); return until(s, e) }
	}
	call(from)
	return x
}

// leave makes a caller go away.
func (r *kubelet) leave(x *caller) {
	close(x.gone)
	delete(r.daemon.callers, x)
	if x.stop != nil {
		r.withdraw(x.stop)
	}
}

// withdraw takes a stop back, as StopContainer does when its caller goes away.
func (r *kubelet) withdraw(s *stopCall) {
	name := "withdraw " + s.request
	ask(r.run, name, nil, func(from node.Caller[container.State, container.Event]) {
		r.daemon.core.Container(s.container, container.WithdrawStop{Request: s.request}, from)
	}, func(_ container.State, err error) { s.withdrawn = err == nil })
}

// call draws what the kubelet, or a user of crictl, asks for next: mostly what
// makes sense now, sometimes what does not.
func (r *kubelet) call() move {
	n := r.rand.IntN(50)
	switch {
	case len(r.view.Sandboxes) == 0 || n < 4:
		return r.runPod(pick(r.run, workloads), uint32(r.rand.IntN(2)))
	case n < 5:
		return r.askSandbox("StopPodSandbox", r.sandbox(sandbox.Ready), sandbox.Stop{}, sandbox.StopAnswer)
	case n < 6:
		return r.askSandbox("RemovePodSandbox", r.sandbox(sandbox.Stopped), sandbox.Remove{}, sandbox.RemoveAnswer)
	case len(r.view.Containers) == 0 || n < 13:
		return r.create(r.sandbox(sandbox.Ready))
	case n < 24:
		return r.askContainer("StartContainer", r.container(container.Created), container.Start{At: r.wall()}, container.StartAnswer)
	case n < 28:
		return r.stop(r.container(container.Running))
	case n < 30:
		return r.askContainer("RemoveContainer", r.container(container.Exited), container.Remove{}, container.RemoveAnswer)
	case n < 35:
		return r.exec(r.container(container.Running))
	case n < 38 && len(r.daemon.callers) > 0:
		x := r.someCaller()
		return move{kind: "call", of: "the caller of " + x.name + " goes away", do: func() { r.leave(x) }}
	case n < 41:
		return r.askContainer("ReopenContainerLog", r.container(container.Running), container.ReopenLog{}, container.ReopenAnswer)
	case n < 44:
		return r.pull(pick(r.run, images))
	case n < 47:
		change := container.UpdateResources{Change: fmt.Append(nil, "limits ", r.rand.IntN(3))}
		return r.askContainer("UpdateContainerResources", r.container(container.Running), change, container.UpdateAnswer())
	case n < 48:
		change := sandbox.UpdateResources{Resources: fmt.Append(nil, "limits ", r.rand.IntN(3))}
		return r.askSandbox("UpdatePodSandboxResources", r.sandbox(sandbox.Ready), change, sandbox.UpdateAnswer)
	case n < 49:
		return r.askImage("RemoveImage", pick(r.run, images), func(ref string) image.Command { return image.Remove{Ref: ref} }, image.RemoveAnswer)
	default:
		return r.askImage("load", pick(r.run, images), func(ref string) image.Command { return image.RequestLoad{Ref: ref, Load: id.Load(r.newID("l"))} }, nil)
	}
}

// stopsSomething reports whether a caller waits for a container to stop.
func (r *kubelet) stopsSomething() bool {
	for x := range r.daemon.callers {
		if x.stop != nil {
			return true
		}
	}
	return false
}

// someCaller draws one that waits, most often for a container to stop.
func (r *kubelet) someCaller() *caller {
	all := make([]*caller, 0, len(r.daemon.callers))
	for x := range r.daemon.callers {
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b *caller) int { return strings.Compare(a.name, b.name) })
	return prefer(r.run, all, func(x *caller) bool { return x.stop != nil })
}

// sandbox picks one, most often one in the phase.
func (r *kubelet) sandbox(in sandbox.Phase) id.Sandbox {
	return prefer(r.run, sortedKeys(r.view.Sandboxes), func(s id.Sandbox) bool { return r.view.Sandboxes[s].State.Phase == in })
}

// container picks one, most often one in the phase.
func (r *kubelet) container(in container.Phase) id.Container {
	return prefer(r.run, sortedKeys(r.view.Containers), func(c id.Container) bool { return r.view.Containers[c].State.Phase == in })
}

func (r *kubelet) runPod(w workload, attempt uint32) move {
	c := sandbox.Run{
		ID: id.Sandbox(r.newID("p")), Name: sandbox.Name{Name: w.name, UID: w.uid, Attempt: attempt}, ConfigDigest: w.name,
		HostNetwork: w.hostNetwork, SharedPID: w.sharedPID, At: r.wall(),
	}
	if r.rand.IntN(20) == 0 && !r.settling {
		c.ConfigDigest = "another"
	}
	return move{kind: "call", of: fmt.Sprintf("RunPodSandbox %s as %s", w.name, c.ID), do: func() { r.doRun(c, false) }}
}

// doRun makes the call. If it fails and nobody has the name, it is asked for again as
// soon as the kubelet learns that, and must not be refused for its name then.
func (r *kubelet) doRun(c sandbox.Run, again bool) {
	name := fmt.Sprintf("RunPodSandbox %s", c.ID)
	asking := r.daemon.asking
	asking[fmt.Sprint(c.Name)]++
	ask(r.run, name, nil, func(from node.Caller[sandbox.State, sandbox.Event]) { r.daemon.core.RunSandbox(c, from) },
		func(_ sandbox.State, err error) {
			asking[fmt.Sprint(c.Name)]--
			r.results[string(c.ID)] = err
			switch {
			case err == nil:
			case again && taken(err):
				r.violation("%s: %v, although the call that had the name has failed", name, err)
			case !again && r.free(err) && !r.sandboxHas(c.Name) && r.alone(fmt.Sprint(c.Name)):
				c.ID = id.Sandbox(r.newID("p"))
				r.doRun(c, true)
			}
		})
}

// taken reports whether a call was refused because of its name.
func taken(err error) bool {
	return fault.KindOf(err) == fault.Exists || strings.Contains(err.Error(), "join the call that has the name")
}

// free reports whether a call has failed in a way that leaves its name free. After a
// panic, what it asked for may still come to be.
func (r *kubelet) free(err error) bool {
	return !r.settling && !taken(err) && !strings.Contains(err.Error(), "panic") && r.rand.IntN(2) == 0
}

// alone reports whether no other call for the name is under way.
func (r *kubelet) alone(name string) bool { return r.daemon.asking[name] == 0 }

func (r *kubelet) sandboxHas(name sandbox.Name) bool {
	for _, at := range r.view.Sandboxes {
		if at.State.Name == name && !sandbox.NameFree(at.State) {
			return true
		}
	}
	return false
}

func (r *kubelet) containerHas(s id.Sandbox, name container.Name) bool {
	for _, at := range r.view.Containers {
		if at.State.Sandbox == s && at.State.Name == name && !container.NameFree(at.State) {
			return true
		}
	}
	return false
}

func (r *kubelet) create(s id.Sandbox) move {
	c := container.Create{
		ID: id.Container(r.newID("c")), Sandbox: s, Name: container.Name{Name: pick(r.run, []string{"main", "sidecar"})},
		ConfigDigest: "d", StopSignal: "SIGTERM", At: r.wall(),
	}
	if r.rand.IntN(10) == 0 {
		c.ConfigDigest = "another"
	}
	return move{kind: "call", of: fmt.Sprintf("CreateContainer %s in %s as %s", c.Name.Name, s, c.ID), do: func() { r.doCreate(c, false) }}
}

// doCreate makes the call, as doRun does.
func (r *kubelet) doCreate(c container.Create, again bool) {
	name := fmt.Sprintf("CreateContainer %s", c.ID)
	asking := r.daemon.asking
	asking[fmt.Sprint(c.Sandbox, c.Name)]++
	ask(r.run, name, nil, func(from node.Caller[container.State, container.Event]) { r.daemon.core.CreateContainer(c, from) },
		func(_ container.State, err error) {
			asking[fmt.Sprint(c.Sandbox, c.Name)]--
			r.results[string(c.ID)] = err
			switch {
			case err == nil:
			case again && taken(err):
				r.violation("%s: %v, although the call that had the name has failed", name, err)
			case !again && r.free(err) && !r.containerHas(c.Sandbox, c.Name) && r.alone(fmt.Sprint(c.Sandbox, c.Name)):
				c.ID = id.Container(r.newID("c"))
				r.doCreate(c, true)
			}
		})
}

func (r *kubelet) askSandbox(what string, s id.Sandbox, c sandbox.Command, until entity.Answer[sandbox.State, sandbox.Event]) move {
	name := fmt.Sprintf("%s %s", what, s)
	return move{kind: "call", of: name, do: func() {
		ask(r.run, name+" "+r.newID("#"), until, func(from node.Caller[sandbox.State, sandbox.Event]) { r.daemon.core.Sandbox(s, c, from) }, nil)
	}}
}

func (r *kubelet) askContainer(what string, c id.Container, command container.Command, until entity.Answer[container.State, container.Event]) move {
	name := fmt.Sprintf("%s %s", what, c)
	return move{kind: "call", of: name, do: func() {
		ask(r.run, name+" "+r.newID("#"), until, func(from node.Caller[container.State, container.Event]) { r.daemon.core.Container(c, command, from) },
			func(_ container.State, err error) { r.results[string(c)] = err })
	}}
}

func (r *kubelet) askImage(what, ref string, command func(string) image.Command, until entity.Answer[image.State, image.Event]) move {
	return move{kind: "call", of: what + " " + ref, do: func() {
		ask(r.run, what+" "+ref+" "+r.newID("#"), until, func(from node.Caller[image.State, image.Event]) { r.daemon.core.Image(ref, command(ref), from) }, nil)
	}}
}

func (r *kubelet) pull(ref string) move {
	p := id.Pull(r.newID("i"))
	return r.askImage("PullImage", ref, func(ref string) image.Command {
		r.daemon.pulls[p] = true
		return image.RequestPull{Ref: ref, Pull: p, At: r.wall()}
	}, image.PullAnswer(p))
}

func (r *kubelet) stop(c id.Container) move {
	grace := time.Duration(pick(r.run, []int{0, 5, 30})) * time.Second
	s := &stopCall{container: c, request: r.newID("s")}
	return move{kind: "call", of: fmt.Sprintf("StopContainer %s with %v of grace as %s", c, grace, s.request), do: func() {
		s.deadline = r.wall().Add(grace)
		r.stops[c] = append(r.stops[c], s)
		command := container.Stop{Request: s.request, Grace: grace, At: r.wall()}
		x := ask(r.run, "StopContainer "+s.request, container.StopAnswer, func(from node.Caller[container.State, container.Event]) {
			r.daemon.core.Container(c, command, from)
		}, nil)
		x.stop = s
	}}
}

func (r *kubelet) exec(c id.Container) move {
	x := id.Exec(r.newID("x"))
	name := fmt.Sprintf("ExecSync %s in %s", x, c)
	return move{kind: "call", of: name, do: func() {
		r.daemon.execs[x] = true
		ask(r.run, name, container.ExecAnswer(x), func(from node.Caller[container.State, container.Event]) {
			r.daemon.core.Container(c, container.RunExec{Exec: x, Command: []string{"true"}}, from)
		}, nil)
	}}
}
