package timeline

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/backoff"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// failed remembers why an effect failed last.
func (e *Entity) failed(key string, f fault.Fault) {
	if e.lastFailures == nil {
		e.lastFailures = map[string]string{}
	}
	e.lastFailures[key] = reason(f)
}

// ExplainPod says in sentences what a pod does or why it ended, what its containers do, and
// what is still owed. now is the moment that durations count to.
func (t *Timeline) ExplainPod(p *Pod, now time.Time) []string { return explainer{t, now}.pod(p) }

// ExplainContainer says in sentences what a container does or why it ended, and what is
// still owed.
func (t *Timeline) ExplainContainer(c *Container, now time.Time) []string {
	e := explainer{t, now}
	return append(e.container(c), e.missing("container/"+string(c.State.ID))...)
}

// explainer explains a timeline as of a moment.
type explainer struct {
	*Timeline
	now time.Time
}

func (t explainer) pod(p *Pod) []string {
	said := []string{fmt.Sprintf("Pod %s %s", podKey(p), p.condition(t.now))}
	byName := map[string][]*Container{}
	var order []string
	for _, c := range t.Containers(p) {
		name := c.State.Name.Name
		if byName[name] == nil {
			order = append(order, name)
		}
		byName[name] = append(byName[name], c)
	}
	for _, name := range order {
		attempts := byName[name]
		said = append(said, t.container(attempts[len(attempts)-1])...)
		if before := earlier(attempts[:len(attempts)-1]); before != "" {
			said = append(said, fmt.Sprintf("Before that, container %s %s.", clean(name), before))
		}
	}
	said = append(said, owes(p.State.Retries, p.lastFailures)...)
	streams := []string{"sandbox/" + string(p.State.ID)}
	for _, c := range t.Containers(p) {
		streams = append(streams, "container/"+string(c.State.ID))
	}
	return append(said, t.missing(streams...)...)
}

// condition is what follows a pod's name.
func (p *Pod) condition(now time.Time) string {
	s := p.State
	why := reason(s.Failure)
	switch s.Phase {
	case sandbox.Creating:
		return fmt.Sprintf("is not ready: %s.", p.waiting("it waits for its next step", now))
	case sandbox.Unwinding:
		return fmt.Sprintf("could not be created: %s. What was begun is being undone.", p.failure())
	case sandbox.Failed:
		if len(s.Retries) > 0 {
			return fmt.Sprintf("could not be created: %s. What was begun is undone, but for what is still owed.", p.failure())
		}
		return fmt.Sprintf("could not be created: %s. Nothing of it is left.", p.failure())
	case sandbox.Ready:
		return "is ready" + since(p.at("SandboxReady"), now) + "."
	case sandbox.Stopping, sandbox.Stopped:
		state := "is being stopped"
		if s.Phase == sandbox.Stopped {
			state = "is stopped"
		}
		if s.Failure.Failed() {
			return fmt.Sprintf("%s, because it was lost: %s.", state, why)
		}
		return state + requested(p.endRequested, p.endCall) + "."
	case sandbox.Removing:
		return "is being removed" + requested(p.endRequested, p.endCall) + "."
	case sandbox.Removed:
		if s.Failure.Failed() {
			return fmt.Sprintf("is gone. It was lost: %s.", why)
		}
		return fmt.Sprintf("is gone: it was removed at %s.", day(p.at("SandboxRemoved")))
	default:
		return "began before these records, so that its state is unknown."
	}
}

// failure says which step of a pod's creation failed, and why.
func (p *Pod) failure() string {
	for _, s := range p.Steps {
		if s.Failed {
			return fmt.Sprintf("the step “%s” failed: %s", s.Name, reason(p.State.Failure))
		}
	}
	return reason(p.State.Failure)
}

// waiting says which steps have not ended.
func (e *Entity) waiting(none string, now time.Time) string {
	var open []string
	for _, s := range e.Steps {
		if !s.Done {
			open = append(open, fmt.Sprintf("“%s” for %s", s.Name, Took(now.Sub(s.Began))))
		}
	}
	if len(open) == 0 {
		return none
	}
	return "it waits for the step " + strings.Join(open, " and ")
}

func (t explainer) container(c *Container) []string {
	said := []string{fmt.Sprintf("Container %s %s", containerName(c), t.containerCondition(c))}
	return append(said, owes(c.State.Retries, c.lastFailures)...)
}

func containerName(c *Container) string {
	if c.State.Name.Name == "" {
		return fmt.Sprintf("%.12s", clean(string(c.State.ID)))
	}
	if c.State.Name.Attempt > 0 {
		return fmt.Sprintf("%s (attempt %d)", clean(c.State.Name.Name), c.State.Name.Attempt)
	}
	return clean(c.State.Name.Name)
}

func (t explainer) containerCondition(c *Container) string {
	s := c.State
	gone := t.removed(c)
	switch s.Phase {
	case container.Absent:
		return "began before these records, so that its state is unknown."
	case container.Creating:
		return fmt.Sprintf("is being created: %s.", c.waiting("it waits for its next step", t.now))
	case container.Unwinding:
		return fmt.Sprintf("could not be created: %s. What was begun is being undone.", reason(s.Failure))
	case container.Failed:
		return fmt.Sprintf("could not be created: %s. Nothing of it is left.", reason(s.Failure))
	case container.Created:
		return "is created, and the kubelet has not asked for its start" + since(c.at("ContainerCreated"), t.now) + "." + t.slow(c)
	case container.Starting:
		return fmt.Sprintf("is being started: %s.", c.waiting("it waits for the runtime", t.now))
	case container.Running:
		return "runs" + since(s.Run.StartedAt, t.now) + "." + t.slow(c) + c.patience()
	case container.Exited, container.Removing, container.Removed:
	}
	switch {
	case s.Failure.Failed():
		return fmt.Sprintf("could not be started: %s.%s", reason(s.Failure), gone)
	case !s.Run.ExitSeen && s.Run.StartedAt.IsZero():
		return "was never started." + gone
	case !s.Run.ExitSeen:
		return fmt.Sprintf("is being removed while it runs: %s.", t.remover(c))
	}
	return t.died(c) + gone
}

// slow says what its start waited for, if that was long.
func (t explainer) slow(c *Container) string {
	pull, has := t.Pull(c)
	if !has || pull.Took < worthSaying {
		return ""
	}
	return fmt.Sprintf(" Before its creation its image was pulled for %s (%s).", Took(pull.Took), amount(pull.Bytes))
}

// worthSaying is how long a pull takes that people ask about.
const worthSaying = time.Second

// patience says that somebody wants a running container to end.
func (c *Container) patience() string {
	switch {
	case !c.stop.killedAt.IsZero():
		return fmt.Sprintf(" SIGKILL was due at %s, and it has not ended yet.", day(c.stop.killedAt))
	case !c.stop.requestedAt.IsZero():
		return fmt.Sprintf(" It is being stopped; SIGKILL follows after a grace period of %s.", Took(c.stop.grace))
	}
	return ""
}

// died says how a container ended and through whom.
func (t explainer) died(c *Container) string {
	x := c.State.Run.Exit
	ran := ""
	if !c.State.Run.StartedAt.IsZero() && !x.At.IsZero() {
		ran = fmt.Sprintf(", %s after its start", Took(x.At.Sub(c.State.Run.StartedAt)))
	}
	var why string
	switch {
	case x.Unknown != "":
		return fmt.Sprintf("ended, and its exit code is unknown: %s.", clean(x.Unknown))
	case x.OOMKilled && x.Signal != 0:
		why = fmt.Sprintf("was killed by the kernel because it was out of memory (%s, exit code %d)%s at %s. %s",
			signal(x.Signal), x.Code, ran, day(x.At), c.limit())
	case x.OOMKilled:
		why = fmt.Sprintf("ended with exit code %d%s at %s, after the kernel had killed a process in it that was out of memory. %s",
			x.Code, ran, day(x.At), c.limit())
	case !c.stop.killedAt.IsZero() && x.Signal == sigkill:
		why = fmt.Sprintf("was killed (SIGKILL, exit code %d)%s at %s: %s.", x.Code, ran, day(x.At), t.killer(c))
	case !c.stop.requestedAt.IsZero():
		why = fmt.Sprintf("ended within its grace period of %s (%s)%s at %s: %s.", Took(c.stop.grace), exitWords(x), ran, day(x.At), t.stopper(c))
	case c.removal.running && x.Signal == sigkill:
		why = fmt.Sprintf("was killed (SIGKILL, exit code %d)%s at %s: %s.", x.Code, ran, day(x.At), t.remover(c))
	case x.Signal != 0:
		why = fmt.Sprintf("was killed by %s (exit code %d)%s at %s. Nobody had asked Stele to stop it.", signal(x.Signal), x.Code, ran, day(x.At))
	case x.Code == 0:
		why = fmt.Sprintf("completed (exit code 0)%s at %s.", ran, day(x.At))
	default:
		why = fmt.Sprintf("exited by itself with code %d%s at %s.", x.Code, ran, day(x.At))
	}
	if x.Note != "" {
		why += " " + clean(x.Note) + "."
	}
	return why
}

const sigkill = 9

// limit says what memory a container might use, and what it used.
func (c *Container) limit() string {
	x := c.State.Run.Exit
	limit, used := amount(x.MemoryLimit), amount(x.MemoryPeak)
	if x.MemoryLimit == 0 && c.MemoryLimit > 0 {
		limit = size(c.MemoryLimit)
	}
	const elsewhere = "its pod's limit was reached, or the node had no memory left"
	switch {
	case x.MemoryLimit == 0 && c.MemoryLimit == 0 && x.MemoryPeak == 0:
		return fmt.Sprintf("It has no memory limit of its own: %s.", elsewhere)
	case x.MemoryLimit == 0 && c.MemoryLimit == 0:
		return fmt.Sprintf("It has no memory limit of its own, and used %s at its highest: %s.", used, elsewhere)
	case x.MemoryPeak == 0:
		return fmt.Sprintf("Its memory limit is %s; what it used is not on record.", limit)
	case x.MemoryLimit > 0 && x.MemoryPeak < x.MemoryLimit-x.MemoryLimit/16:
		return fmt.Sprintf("Its memory: limit %s, used %s at its highest. So %s.", limit, used, elsewhere)
	}
	return fmt.Sprintf("Its memory: limit %s, used %s at its highest.", limit, used)
}

// stopper says who wanted a container to end.
func (t explainer) stopper(c *Container) string {
	p := t.podOf(c)
	by, ending := c.stop.killedBy, !p.endRequested.IsZero() && !p.endRequested.After(c.stopAt())
	if c.stop.request != "" {
		by = container.RequestedBy(c.stop.request)
	}
	switch {
	case by == container.ByPod && p.State.Failure.Failed():
		return "its pod was lost"
	case by == container.ByPod || by == "" && ending:
		return p.ending()
	case by == container.ByCall && c.stop.grace == 0:
		return "the kubelet asked for it with StopContainer, without a grace period"
	case by == container.ByCall:
		return "the kubelet asked for it with StopContainer"
	}
	return "the kubelet asked for it without a grace period, or for its removal"
}

// ending says what was done to a pod that took its containers with it.
func (p *Pod) ending() string {
	switch p.endCall {
	case "StopPodSandbox":
		return "its pod was being stopped (StopPodSandbox)"
	case "RemovePodSandbox":
		return "its pod was being removed (RemovePodSandbox)"
	}
	return "its pod was being stopped or removed"
}

// remover says who wanted a container to be removed.
func (t explainer) remover(c *Container) string {
	switch c.removal.by {
	case container.ByCall:
		return "the kubelet asked for its removal with RemoveContainer"
	case container.ByPod:
		return t.podOf(c).ending()
	case container.ByNode:
		return "a daemon that started found that its pod did not know it"
	}
	return "its removal was requested"
}

// removed is what is said of the removal of a container that had ended before.
func (t explainer) removed(c *Container) string {
	switch {
	case c.State.Phase != container.Removed:
		return ""
	case c.removal.by == container.ByCall:
		return " The kubelet removed it."
	case c.removal.by == container.ByPod:
		return " It was removed with its pod."
	}
	return " It was removed."
}

func inBrackets(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func (c *Container) stopAt() time.Time {
	if !c.stop.requestedAt.IsZero() {
		return c.stop.requestedAt
	}
	return c.stop.killedAt
}

func (t explainer) killer(c *Container) string {
	if c.State.SeccompKilled() {
		return fmt.Sprintf("its pod wants that for system calls that the seccomp profile forbids, and it made %s", c.State.Blocked)
	}
	if c.stop.requestedAt.IsZero() || c.stop.grace == 0 {
		return t.stopper(c)
	}
	return fmt.Sprintf("%s, and it had not ended after its grace period of %s", t.stopper(c), Took(c.stop.grace))
}

// earlier says how earlier attempts of a container ended, the most frequent end first.
func earlier(attempts []*Container) string {
	if len(attempts) == 0 {
		return ""
	}
	ends := map[string]int{}
	for _, c := range attempts {
		x := c.State.Run.Exit
		switch {
		case c.State.Failure.Failed():
			ends["could not be created or started"]++
		case x.OOMKilled:
			ends["was out of memory"]++
		case x.Unknown != "":
			ends["ended with an unknown exit code"]++
		case c.State.Run.ExitSeen:
			ends["ended with "+exitWords(x)]++
		default:
			ends["did not run"]++
		}
	}
	order := slices.SortedFunc(maps.Keys(ends), func(a, b string) int {
		if ends[a] != ends[b] {
			return ends[b] - ends[a]
		}
		return strings.Compare(a, b)
	})
	for i, end := range order {
		order[i] = end + " " + times(ends[end])
	}
	return strings.Join(order, " and ")
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}

// owes says what failed and is tried again.
func owes(retries backoff.Schedule, last map[string]string) []string {
	var said []string
	for _, key := range slices.Sorted(maps.Keys(retries)) {
		r := retries[key]
		when := "It is tried again now."
		if !r.At.IsZero() {
			when = fmt.Sprintf("It is tried again at %s.", day(r.At))
		}
		why := ""
		if last[key] != "" {
			why = ", the last time because: " + last[key]
		}
		often := times(r.Tries)
		if r.Tries == backoff.Counted {
			often += " or more"
		}
		said = append(said, fmt.Sprintf("Still owed: %s. It failed %s%s. %s", owedWords(key), often, why, when))
	}
	return said
}

// owedWords is an effect as people read it; the key is its name in the machines.
func owedWords(key string) string {
	switch key {
	case "detach network":
		return "the network is not detached, so its address is not free"
	case "stop holder":
		return "the holder of the PID namespace is not stopped"
	case "release":
		return "namespaces and files are not removed"
	case "kill":
		return "SIGKILL could not be sent"
	case "delete":
		return "the runtime has not deleted the container"
	case "release rootfs":
		return "the root file system is not removed"
	}
	return clean(key)
}

// at is the time of the newest event of that name, zero if there is none.
func (e *Entity) at(event string) time.Time {
	for _, m := range slices.Backward(e.Moments) {
		if m.Event == event {
			return m.At
		}
	}
	return time.Time{}
}

func since(at, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	return fmt.Sprintf(" since %s, for %s", day(at), Took(now.Sub(at)))
}

func requested(at time.Time, call string) string {
	if at.IsZero() {
		return ""
	}
	return ", as requested at " + day(at) + inBrackets(call)
}

// Pull returns the newest pull of a container's image that ended after its pod's
// request and began before the container's; false if there is none.
func (t *Timeline) Pull(c *Container) (PullEnd, bool) {
	i := t.images[id.ImageKey(c.ImageRef)]
	if i == nil {
		return PullEnd{}, false
	}
	from := c.State.Request.At
	if p := t.pods[c.State.Sandbox]; p != nil && !p.State.CreatedAt.IsZero() {
		from = p.State.CreatedAt
	}
	for _, end := range slices.Backward(i.Done) {
		if !end.Ended.Before(from) && !end.Began.After(c.State.Request.At) {
			return end, true
		}
	}
	return PullEnd{}, false
}

// Owed names the effects that the pod's state calls for.
func (p *Pod) Owed() []string { return keys(sandbox.Owed(p.State)) }

// Owed names the effects that the container's state calls for.
func (c *Container) Owed() []string { return keys(container.Owed(c.State)) }

func keys[F interface{ Key() string }](effects []F) []string {
	var all []string
	for _, f := range effects {
		all = append(all, f.Key())
	}
	return all
}
