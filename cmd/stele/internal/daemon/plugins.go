package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/executors/nri"
	"github.com/stele-runtime/stele/projections"
)

// snapshotWithin bounds the wait for the projections before a snapshot.
const snapshotWithin = 10 * time.Second

// Plugins starts NRI plug-ins, tells those that register what exists, and tells all what
// ends by itself. What calls do, the effects tell them.
type Plugins struct {
	Driver   PluginDriver
	Views    PluginViews
	Executor PluginFacts
	Actors   Actors
	// Changes follow the log behind Views; Await returns once Views include a record, and
	// Last is the log's last one.
	Changes *projections.Changes
	Await   func(context.Context, eventlog.Sequence) error
	Last    func() eventlog.Sequence
	Logger  *slog.Logger

	// begun is true once Run has begun, and after the last change that was handled.
	begun bool
	after eventlog.Sequence
}

// PluginDriver calls plug-ins.
type PluginDriver interface {
	Start(nri.Source)
}

// PluginViews are the states of everything that has not ended, as of a record.
type PluginViews interface {
	Views
	Sequence() eventlog.Sequence
}

// PluginFacts are what plug-ins get to know, and how they get to know of what no effect
// tells them.
type PluginFacts interface {
	NRIPod(sandbox.State) (nri.Pod, error)
	NRIContainer(container.State) (nri.Container, error)
	ContainerEnded(context.Context, container.State)
	PodStopped(context.Context, sandbox.State)
	PodUpdated(context.Context, sandbox.State)
}

// Run starts the plug-ins of the folder, and follows the log until ctx is done.
func (p *Plugins) Run(ctx context.Context) {
	if !p.begun {
		// What ends after the snapshot is behind this record.
		p.begun, p.after = true, p.Views.Sequence()
		p.Driver.Start(p)
	}
	for change, err := range p.Changes.Follow(ctx, p.after) {
		if missed, is := errors.AsType[*projections.MissedError](err); is {
			p.after = missed.Through
			p.catchUp(ctx)
			continue
		}
		if err != nil {
			return // ctx is done, or Health says why there are no more
		}
		p.after = change.Record.Sequence
		switch what := change.What.(type) {
		case projections.ContainerChanged:
			// An exit during the start is told once plug-ins know of the start.
			if becomes(container.Exited, what.Before, what.After) {
				p.Executor.ContainerEnded(ctx, what.After.State)
			}
		case projections.SandboxChanged:
			if _, is := what.Event.(sandbox.ResourcesUpdated); is {
				p.Executor.PodUpdated(ctx, what.After.State)
			}
			if what.Before != nil && what.Before.State.Phase != sandbox.Stopped && what.After.State.Phase == sandbox.Stopped {
				p.Executor.PodStopped(ctx, what.After.State)
			}
		case projections.ImageChanged, projections.HostChanged, projections.StreamPutAside:
		}
	}
}

func becomes(phase container.Phase, before, after *projections.Container) bool {
	return before != nil && before.State.Phase != phase && after.State.Phase == phase
}

// catchUp tells of everything that has ended; what plug-ins know is not told again.
func (p *Plugins) catchUp(ctx context.Context) {
	for _, c := range p.Views.Containers() {
		if c.State.Phase == container.Exited {
			p.Executor.ContainerEnded(ctx, c.State)
		}
	}
	for _, s := range p.Views.Sandboxes() {
		if s.State.Phase == sandbox.Stopped {
			p.Executor.PodStopped(ctx, s.State)
		}
	}
}

// Snapshot is part of nri.Source.
func (p *Plugins) Snapshot(ctx context.Context, told func(id string) bool) ([]nri.Pod, []nri.Container, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotWithin)
	defer cancel()
	if err := p.Await(ctx, p.Last()); err != nil {
		return nil, nil, fmt.Errorf("wait for the projections: %w", err)
	}
	var pods []nri.Pod
	for _, s := range p.Views.Sandboxes() {
		switch s.State.Phase {
		case sandbox.Creating:
			if !told(string(s.State.ID)) {
				continue
			}
		case sandbox.Ready, sandbox.Stopping, sandbox.Stopped:
		case sandbox.Absent, sandbox.Unwinding, sandbox.Failed, sandbox.Removing, sandbox.Removed:
			continue
		}
		pod, err := p.Executor.NRIPod(s.State)
		if err != nil {
			p.Logger.Warn("pod left out of a snapshot for NRI plug-ins", "sandbox", s.State.ID, "error", err)
			continue
		}
		pods = append(pods, pod)
	}
	return pods, p.containers(told), nil
}

func (p *Plugins) containers(told func(id string) bool) (containers []nri.Container) {
	for _, c := range p.Views.Containers() {
		switch c.State.Phase {
		case container.Creating:
			if !told(string(c.State.ID)) {
				continue
			}
		case container.Created, container.Starting, container.Running:
		case container.Absent, container.Unwinding, container.Failed, container.Exited, container.Removing, container.Removed:
			continue
		}
		if c.State.Run.ExitSeen {
			continue
		}
		facts, err := p.Executor.NRIContainer(c.State)
		if err != nil {
			p.Logger.Warn("container left out of a snapshot for NRI plug-ins", "container", c.State.ID, "error", err)
			continue
		}
		containers = append(containers, facts)
	}
	return containers
}

// Update is part of nri.Source.
func (p *Plugins) Update(ctx context.Context, name string, change *runtimeapi.LinuxContainerResources) error {
	if proto.Size(change) == 0 {
		return nil
	}
	request, err := proto.Marshal(&runtimeapi.UpdateContainerResourcesRequest{ContainerId: name, Linux: change})
	if err != nil {
		return fault.New(fault.Invalid, "update container", name, "%v", err)
	}
	_, err = p.Actors.Container(ctx, id.Container(name), container.UpdateResources{Change: request, ByPlugin: true}, container.UpdateAnswer())
	return err
}
