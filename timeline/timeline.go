package timeline

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// Record is a record of the event log, wherever it was read.
type Record struct {
	// Sequence is the place in the log, Version the place in the stream.
	Sequence, Version uint64
	Stream            string
	// Time is wall time; SinceBoot counts in the boot BootID.
	Time      time.Time
	SinceBoot time.Duration
	BootID    string
	Type      string
	Schema    uint32
	// Command led to the event; Trace is the trace id of the call, empty if unknown.
	Command, Trace string
	Payload        []byte
}

// Moment is an event of an entity, in words.
type Moment struct {
	Sequence uint64    `json:"sequence"`
	At       time.Time `json:"time"`
	// Since is the time since the request or the incident that led to it.
	Since time.Duration `json:"sinceNanoseconds"`
	// Event is the event's name, Command what led to it. Call is the CRI's call behind that,
	// and Trace its trace id, if the record knows them.
	Event   string `json:"event"`
	Command string `json:"command,omitempty"`
	Call    string `json:"call,omitempty"`
	Trace   string `json:"trace,omitempty"`
	Words   string `json:"words"`
	// Bad: something failed, was killed or was lost.
	Bad bool `json:"bad,omitempty"`
}

// Entity is what pods, containers, images and the node have in common.
type Entity struct {
	Moments []Moment `json:"moments"`
	// Steps are those of its start, in the order in which they began.
	Steps []Step `json:"steps,omitempty"`
	// Phases are those of its machine, in order; each lasts until the next one begins.
	Phases []Phase `json:"-"`
	// origin is the record from which Since counts.
	origin Record
	// lastFailures maps the key of an effect to the reason of its last failure.
	lastFailures map[string]string
}

// Phase is a phase of a machine, by its name there.
type Phase struct {
	Name  string
	Began time.Time
}

// Pod is a sandbox of a pod.
type Pod struct {
	Entity
	State sandbox.State
	// Members are the containers it ever had, in their order.
	Members []id.Container
	// endRequested is when its stop or removal was requested, or when it was lost; endCall is
	// the call that did, empty if it was lost.
	endRequested time.Time
	endCall      string
}

// Container is a container.
type Container struct {
	Entity
	State container.State
	// ImageRef is the image as the pod's author wrote it; empty if unknown.
	ImageRef string
	// MemoryLimit is in bytes, 0 for none or unknown.
	MemoryLimit int64
	stop        stop
	removal     removal
}

// stop is what was done to end a container before it ended.
type stop struct {
	requestedAt time.Time
	request     string
	grace       time.Duration
	killedAt    time.Time
	killedBy    container.By
}

// removal is the first request to remove a container.
type removal struct {
	at time.Time
	by container.By
	// running: the container had not ended.
	running bool
}

// Image is a reference, with its pulls.
type Image struct {
	Entity
	// Ref is the reference, or the begin of its stream's id if no record has it.
	Ref string
	// pulls maps a pull under way to its request.
	pulls map[id.Pull]Record
	// Done are the pulls that ended, in order.
	Done []PullEnd
}

// PullEnd is a pull that ended.
type PullEnd struct {
	Began, Ended time.Time
	Took         time.Duration
	// Bytes is how much was transferred; Reason why it failed, empty if it did not.
	Bytes  uint64
	Reason string
}

// Timeline is the history that records tell. Records must be added in the order of their
// sequence; any part of a log will do.
type Timeline struct {
	pods       map[id.Sandbox]*Pod
	containers map[id.Container]*Container
	// images are by the ids of their streams.
	images map[string]*Image
	// Node is the node's own stream.
	Node Entity
	// Skipped counts records that this version cannot read.
	Skipped int
	// Last is the time of the newest record.
	Last    time.Time
	samples map[StepName][]time.Duration
	// Missing is what was removed from the log.
	Missing Missing
}

// New returns an empty timeline.
func New() *Timeline {
	return &Timeline{
		pods: map[id.Sandbox]*Pod{}, containers: map[id.Container]*Container{}, images: map[string]*Image{},
		samples: map[StepName][]time.Duration{}, Missing: Missing{},
	}
}

// Add adds the next record.
func (t *Timeline) Add(r Record) {
	if r.Time.After(t.Last) {
		t.Last = r.Time
	}
	kind, name, _ := strings.Cut(r.Stream, "/")
	var err error
	switch kind {
	case "sandbox":
		var e sandbox.Event
		if e, err = codec.DecodeSandbox(r.Type, r.Schema, r.Payload); err == nil {
			t.addSandbox(id.Sandbox(name), r, e)
		}
	case "container":
		var e container.Event
		if e, err = codec.DecodeContainer(r.Type, r.Schema, r.Payload); err == nil {
			t.addContainer(id.Container(name), r, e)
		}
	case "image":
		var e image.Event
		if e, err = codec.DecodeImage(r.Type, r.Schema, r.Payload); err == nil {
			t.addImage(name, r, e)
		}
	case "node":
		var e host.Event
		if e, err = codec.DecodeHost(r.Type, r.Schema, r.Payload); err == nil {
			t.Node.moment(r, hostWords(e), true)
		}
	default:
		t.Skipped++
	}
	if err != nil {
		t.Skipped++
	}
}

func (t *Timeline) addSandbox(sid id.Sandbox, r Record, e sandbox.Event) {
	p := t.pods[sid]
	if p == nil {
		p = &Pod{}
		t.pods[sid] = p
	}
	p.State = sandbox.Evolve(p.State, e)
	// A part of a log may begin after the request.
	p.State.ID = sid
	p.enters(string(p.State.Phase), r)
	t.stepsOfPod(p, r, e)
	said := sandboxWords(e)
	switch e := e.(type) {
	case sandbox.ContainerAdded:
		if !slices.Contains(p.Members, e.Container) {
			p.Members = append(p.Members, e.Container)
		}
	case sandbox.StopRequested, sandbox.RemoveRequested, sandbox.SandboxLost:
		if p.endRequested.IsZero() {
			p.endRequested, p.endCall = r.Time, calls[r.Command]
		}
	case sandbox.NetworkDetachFailed:
		p.failed("detach network", e.Fault)
	case sandbox.HolderStopFailed:
		p.failed("stop holder", e.Fault)
	case sandbox.SandboxReleaseFailed:
		p.failed("release", e.Fault)
	case sandbox.ContainerStopFailed:
		p.failed("stop container "+string(e.Container), e.Fault)
	case sandbox.ContainerRemoveFailed:
		p.failed("remove container "+string(e.Container), e.Fault)
	default: // Of other events the state says enough.
	}
	p.moment(r, said, opensSandbox(e))
}

func (t *Timeline) addContainer(cid id.Container, r Record, e container.Event) {
	c := t.containers[cid]
	if c == nil {
		c = &Container{}
		t.containers[cid] = c
	}
	before := c.State
	c.State = container.Evolve(c.State, e)
	c.State.ID = cid
	c.enters(string(c.State.Phase), r)
	t.stepsOfContainer(c, r, e)
	switch e := e.(type) {
	case container.ContainerRequested:
		c.ImageRef = e.Image
		c.configured(e.Config)
	case container.ResourcesUpdated:
		var now runtimeapi.LinuxContainerResources
		if proto.Unmarshal(e.Resources, &now) == nil && now.GetMemoryLimitInBytes() > 0 {
			c.MemoryLimit = now.GetMemoryLimitInBytes()
		}
	case container.StopRequested:
		if !before.Run.ExitSeen {
			c.stop = stop{requestedAt: r.Time, request: e.Request, grace: max(0, e.Deadline.Sub(r.Time).Round(time.Second))}
		}
	case container.StopWithdrawn:
		if c.stop.request == e.Request && c.stop.killedAt.IsZero() {
			c.stop = stop{}
		}
	case container.KillRequested:
		if !before.Run.ExitSeen && c.stop.killedAt.IsZero() {
			c.stop.killedAt, c.stop.killedBy = r.Time, e.By
		}
	case container.RemoveRequested:
		if c.removal.at.IsZero() {
			c.removal = removal{r.Time, e.By, before.Creation.Process.PID != 0 && !before.Run.ExitSeen}
		}
	case container.KillFailed:
		c.failed("kill", e.Fault)
	case container.RuntimeDeleteFailed:
		c.failed("delete", e.Fault)
	case container.RootfsReleaseFailed:
		c.failed("release rootfs", e.Fault)
	default: // Of other events the state says enough.
	}
	said := containerWords(e)
	if exited, is := e.(container.ContainerExited); is {
		said.bad = badEnd(exited.Exit, c.Asked())
	}
	c.moment(r, said, opensContainer(e))
	c.Moments[len(c.Moments)-1].Call = callOfContainer(e, r.Command)
}

// Asked reports whether a caller wanted the container to end before it did.
func (c *Container) Asked() bool {
	killed := !c.stop.killedAt.IsZero() && c.stop.killedBy != container.BySeccomp
	return killed || !c.stop.requestedAt.IsZero() || c.removal.running
}

// badEnd reports whether a container's end needs a look.
func badEnd(x container.Exit, asked bool) bool {
	return x.OOMKilled || x.Unknown != "" || x.Code != 0 && !asked
}

// configured learns from the CRI's configuration.
func (c *Container) configured(encoded []byte) {
	var config runtimeapi.ContainerConfig
	if proto.Unmarshal(encoded, &config) != nil {
		return
	}
	c.MemoryLimit = config.GetLinux().GetResources().GetMemoryLimitInBytes()
	c.ImageRef = cmp.Or(config.GetImage().GetUserSpecifiedImage(), config.GetImage().GetImage(), c.ImageRef)
}

func (t *Timeline) addImage(key string, r Record, e image.Event) {
	i := t.images[key]
	if i == nil {
		i = &Image{Ref: fmt.Sprintf("%.12s", key), pulls: map[id.Pull]Record{}}
		t.images[key] = i
	}
	if ref := refOf(e); ref != "" {
		i.Ref = ref
	}
	switch e := e.(type) {
	case image.PullRequested:
		i.pulls[e.Pull] = r
	case image.ImagePulled:
		t.pullEnded(i, e.Pull, r, PullEnd{Bytes: e.Bytes})
	case image.PullFailed:
		t.pullEnded(i, e.Pull, r, PullEnd{Bytes: e.Bytes, Reason: reason(e.Fault)})
	default: // Other events begin or end no pull.
	}
	i.moment(r, imageWords(e), opensImage(e))
}

// refOf is the reference that an event names, empty for most.
func refOf(e image.Event) string {
	switch e := e.(type) {
	case image.PullRequested:
		return e.Ref
	case image.LoadRequested:
		return e.Ref
	case image.RemoveRequested:
		return e.Ref
	default:
		return ""
	}
}

func (t *Timeline) pullEnded(i *Image, pull id.Pull, r Record, end PullEnd) {
	began, known := i.pulls[pull]
	if !known {
		return
	}
	delete(i.pulls, pull)
	end.Began, end.Ended, end.Took = began.Time, r.Time, between(began, r)
	i.Done = append(i.Done, end)
	if end.Reason == "" {
		t.sample(StepPull, end.Took)
	}
}

// moment adds what an event says. One that opens something is the origin of those after it.
func (e *Entity) moment(r Record, said phrase, opens bool) {
	if opens || e.origin.Sequence == 0 {
		e.origin = r
	}
	event := eventName(r.Type)
	e.Moments = append(e.Moments, Moment{
		Sequence: r.Sequence, At: r.Time, Since: between(e.origin, r), Event: event, Command: r.Command, Trace: r.Trace,
		Call: callOf(opens, r.Command), Words: said.words, Bad: said.bad,
	})
}

// enters notes the phase that a record leaves the machine in.
func (e *Entity) enters(phase string, r Record) {
	if n := len(e.Phases); n == 0 && phase != "" || n > 0 && e.Phases[n-1].Name != phase {
		e.Phases = append(e.Phases, Phase{phase, r.Time})
	}
}

func callOf(opens bool, command string) string {
	if !opens {
		return ""
	}
	return calls[command]
}

// Compare makes the percentiles those of another timeline, of more pods.
func (t *Timeline) Compare(with *Timeline) { t.samples = with.samples }

// between is the time from one record to another: exact within a boot, else by wall clock,
// and never negative.
func between(a, b Record) time.Duration {
	if a.BootID == b.BootID && a.BootID != "" {
		return max(0, b.SinceBoot-a.SinceBoot)
	}
	return max(0, b.Time.Sub(a.Time))
}

// Pods returns all pods in the order of their creation.
func (t *Timeline) Pods() []*Pod {
	all := make([]*Pod, 0, len(t.pods))
	for _, p := range t.pods {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *Pod) int {
		return cmp.Or(cmp.Compare(a.first(), b.first()), cmp.Compare(a.State.ID, b.State.ID))
	})
	return all
}

// Containers returns a pod's containers in the order of their creation.
func (t *Timeline) Containers(p *Pod) []*Container {
	var all []*Container
	for _, c := range t.containers {
		if c.State.Sandbox == p.State.ID {
			all = append(all, c)
		}
	}
	sortByAge(all)
	return all
}

func sortByAge(all []*Container) {
	slices.SortFunc(all, func(a, b *Container) int {
		return cmp.Or(cmp.Compare(a.first(), b.first()), cmp.Compare(a.State.ID, b.State.ID))
	})
}

// byAge returns all containers in the order of their creation.
func (t *Timeline) byAge() []*Container {
	all := t.AllContainers()
	sortByAge(all)
	return all
}

// AllContainers returns all containers, in no order.
func (t *Timeline) AllContainers() []*Container { return slices.Collect(maps.Values(t.containers)) }

// Pod returns a pod by its sandbox's id, nil if no record spoke of it.
func (t *Timeline) Pod(s id.Sandbox) *Pod { return t.pods[s] }

// Container returns a container by its id, nil if no record spoke of it.
func (t *Timeline) Container(c id.Container) *Container { return t.containers[c] }

// Images returns all references in the order in which records first spoke of them.
func (t *Timeline) Images() []*Image {
	return slices.SortedFunc(maps.Values(t.images), func(a, b *Image) int {
		return cmp.Or(cmp.Compare(a.first(), b.first()), cmp.Compare(a.Ref, b.Ref))
	})
}

// Image returns a reference's pulls, nil if no record spoke of it.
func (t *Timeline) Image(ref string) *Image { return t.images[id.ImageKey(ref)] }

func (e *Entity) first() uint64 {
	if len(e.Moments) == 0 {
		return 0
	}
	return e.Moments[0].Sequence
}
