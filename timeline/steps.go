package timeline

import (
	"slices"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// StepName names a step of a start, in words.
type StepName string

// The steps of a start. Queue is from the call's acceptance until its event is in the log.
// Steps of a pod may overlap: the network and the holder do.
const (
	StepQueue     StepName = "queue"
	StepPrepare   StepName = "namespaces and files"
	StepNetwork   StepName = "network"
	StepHolder    StepName = "holder process"
	StepPull      StepName = "image pull"
	StepRootfs    StepName = "root file system"
	StepCreate    StepName = "runtime create"
	StepStart     StepName = "runtime start"
	samplesMost            = 10_000
	samplesEnough          = 2
)

// StepNames are all steps, in the order of a start.
var StepNames = []StepName{StepQueue, StepPrepare, StepNetwork, StepHolder, StepPull, StepRootfs, StepCreate, StepStart}

// Step is a part of a start.
type Step struct {
	Name  StepName  `json:"name"`
	Began time.Time `json:"began"`
	// Took is meaningful once it is Done. Failed: it ended without success.
	Took   time.Duration `json:"tookNanoseconds,omitempty"`
	Done   bool          `json:"done"`
	Failed bool          `json:"failed,omitempty"`
	from   Record
}

func (e *Entity) begin(name StepName, r Record) {
	e.Steps = append(e.Steps, Step{Name: name, Began: r.Time, from: r})
}

// end ends the newest step of that name, if it has not ended.
func (t *Timeline) end(e *Entity, name StepName, r Record, failed bool) {
	for i := range slices.Backward(e.Steps) {
		s := &e.Steps[i]
		if s.Name != name {
			continue
		}
		if s.Done {
			return
		}
		s.Done, s.Failed, s.Took = true, failed, between(s.from, r)
		if !failed {
			t.sample(name, s.Took)
		}
		return
	}
}

// queued adds the time from a call's acceptance to its record; both are wall times.
func (t *Timeline) queued(e *Entity, accepted time.Time, r Record) {
	if accepted.IsZero() || accepted.After(r.Time) {
		return
	}
	s := Step{Name: StepQueue, Began: accepted, Took: r.Time.Sub(accepted), Done: true}
	e.Steps = append(e.Steps, s)
	t.sample(StepQueue, s.Took)
}

func (t *Timeline) stepsOfPod(p *Pod, r Record, e sandbox.Event) {
	switch e := e.(type) {
	case sandbox.SandboxRequested:
		t.queued(&p.Entity, e.At, r)
		p.begin(StepPrepare, r)
	case sandbox.SandboxPrepared:
		t.end(&p.Entity, StepPrepare, r, false)
		if p.State.Phase != sandbox.Creating {
			return
		}
		if !p.State.HostNetwork {
			p.begin(StepNetwork, r)
		}
		if p.State.SharedPID {
			p.begin(StepHolder, r)
		}
	case sandbox.SandboxPrepareFailed:
		t.end(&p.Entity, StepPrepare, r, true)
	case sandbox.NetworkAttached:
		t.end(&p.Entity, StepNetwork, r, false)
	case sandbox.NetworkAttachFailed:
		t.end(&p.Entity, StepNetwork, r, true)
	case sandbox.HolderStarted:
		t.end(&p.Entity, StepHolder, r, false)
	case sandbox.HolderStartFailed:
		t.end(&p.Entity, StepHolder, r, true)
	default: // Other events are no part of a start.
	}
}

func (t *Timeline) stepsOfContainer(c *Container, r Record, e container.Event) {
	switch e := e.(type) {
	case container.ContainerRequested:
		t.queued(&c.Entity, e.At, r)
		c.begin(StepRootfs, r)
	case container.RootfsPrepared:
		t.end(&c.Entity, StepRootfs, r, false)
		c.begin(StepCreate, r)
	case container.RootfsPrepareFailed:
		t.end(&c.Entity, StepRootfs, r, true)
	case container.ContainerCreated:
		t.end(&c.Entity, StepCreate, r, false)
	case container.ContainerCreateFailed:
		t.end(&c.Entity, StepRootfs, r, true)
		t.end(&c.Entity, StepCreate, r, true)
	case container.StartRequested:
		c.begin(StepStart, r)
	case container.ContainerStarted:
		t.end(&c.Entity, StepStart, r, false)
	case container.ContainerStartFailed:
		t.end(&c.Entity, StepStart, r, true)
	default: // Other events are no part of a start.
	}
}

func (t *Timeline) sample(name StepName, took time.Duration) {
	if len(t.samples[name]) < samplesMost {
		t.samples[name] = append(t.samples[name], took)
	}
}

// Percentiles are of a step's durations on the node.
type Percentiles struct {
	// Of is how many were measured.
	Of       int
	P50, P95 time.Duration
}

// Percentiles returns a step's, and false if too few were seen to say anything.
func (t *Timeline) Percentiles(name StepName) (Percentiles, bool) {
	all := slices.Sorted(slices.Values(t.samples[name]))
	if len(all) < samplesEnough {
		return Percentiles{}, false
	}
	at := func(percent int) time.Duration { return all[max(0, (len(all)*percent+99)/100-1)] }
	return Percentiles{Of: len(all), P50: at(50), P95: at(95)}, true
}
