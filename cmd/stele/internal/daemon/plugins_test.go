package daemon

import (
	"context"
	"slices"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/executors/nri"
)

// pluginFacts are traced.
type pluginFacts struct{ *trace }

func (pluginFacts) NRIPod(s sandbox.State) (nri.Pod, error) { return nri.Pod{ID: string(s.ID)}, nil }

func (pluginFacts) NRIContainer(s container.State) (nri.Container, error) {
	return nri.Container{ID: string(s.ID)}, nil
}

func (f pluginFacts) ContainerEnded(_ context.Context, s container.State) { f.add("ended %s", s.ID) }
func (f pluginFacts) PodStopped(_ context.Context, s sandbox.State)       { f.add("stopped %s", s.ID) }
func (f pluginFacts) PodUpdated(_ context.Context, s sandbox.State)       { f.add("updated %s", s.ID) }

// sequenced are views as of a record.
type sequenced struct{ *views }

func (sequenced) Sequence() eventlog.Sequence { return 7 }

func newPlugins(t *trace, pods []sandbox.Phase, containers []container.State) *Plugins {
	past := entity.Past{Sandboxes: map[id.Sandbox]entity.Restored[sandbox.State]{}, Containers: map[id.Container]entity.Restored[container.State]{}}
	for _, phase := range pods {
		past.Sandboxes[id.Sandbox(phase)] = entity.Restored[sandbox.State]{State: sandbox.State{ID: id.Sandbox(phase), Phase: phase}}
	}
	for _, s := range containers {
		past.Containers[s.ID] = entity.Restored[container.State]{State: s}
	}
	return &Plugins{
		Views: sequenced{&views{past: past}}, Executor: pluginFacts{t}, Actors: &actors{trace: t}, Logger: quiet,
		Last:  func() eventlog.Sequence { return 9 },
		Await: func(_ context.Context, s eventlog.Sequence) error { t.add("await %d", s); return nil },
	}
}

// A snapshot has what plug-ins can have heard of, or will hear of.
func TestSnapshotForPlugins(t *testing.T) {
	pods := []sandbox.Phase{sandbox.Creating, sandbox.Ready, sandbox.Unwinding, sandbox.Failed, sandbox.Stopping, sandbox.Stopped, sandbox.Removing}
	var containers []container.State
	for _, phase := range []container.Phase{
		container.Creating, container.Unwinding, container.Created, container.Starting, container.Running, container.Exited, container.Removing,
	} {
		containers = append(containers, container.State{ID: id.Container(phase), Phase: phase})
	}
	containers = append(containers, container.State{ID: "ended at once", Phase: container.Starting, Run: container.Run{ExitSeen: true}})
	for told, want := range map[bool][2][]string{
		false: {{"ready", "stopped", "stopping"}, {"created", "running", "starting"}},
		true:  {{"creating", "ready", "stopped", "stopping"}, {"created", "creating", "running", "starting"}},
	} {
		asked := &trace{}
		p := newPlugins(asked, pods, containers)
		gotPods, gotContainers, err := p.Snapshot(t.Context(), func(string) bool { return told })
		if err != nil {
			t.Fatal(err)
		}
		var names [2][]string
		for _, pod := range gotPods {
			names[0] = append(names[0], pod.ID)
		}
		for _, c := range gotContainers {
			names[1] = append(names[1], c.ID)
		}
		slices.Sort(names[0])
		slices.Sort(names[1])
		if !slices.Equal(names[0], want[0]) || !slices.Equal(names[1], want[1]) {
			t.Errorf("told %t: the snapshot has %q, want %q", told, names, want)
		}
		// First the views include all that is durable.
		asked.expect(t, "await 9")
	}
}

// A follower that missed changes tells of all that has ended.
func TestPluginsCatchUp(t *testing.T) {
	asked := &trace{}
	p := newPlugins(asked, []sandbox.Phase{sandbox.Ready, sandbox.Stopped}, []container.State{
		{ID: "running", Phase: container.Running}, {ID: "starting", Phase: container.Starting, Run: container.Run{ExitSeen: true}}, {ID: "exited", Phase: container.Exited},
	})
	p.catchUp(t.Context())
	asked.expect(t, "ended exited", "stopped stopped")
}

// What a plug-in wants is a command that says so; nothing is none.
func TestUpdateForPlugin(t *testing.T) {
	asked := &trace{}
	p := newPlugins(asked, nil, nil)
	for _, change := range []*runtimeapi.LinuxContainerResources{{}, {CpuShares: 2}} {
		if err := p.Update(t.Context(), "c", change); err != nil {
			t.Error(err)
		}
	}
	asked.expect(t, "c: {Change:[10 1 99 18 2 24 2] ByPlugin:true}")
}
