package executors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/nri"
)

// NRIPod returns what NRI plug-ins get to know of a pod.
func (x *Executor) NRIPod(s sandbox.State) (nri.Pod, error) {
	pod, err := x.nriPod(sandbox.PodOf(s))()
	if err != nil {
		return pod, err
	}
	pod.IPs, pod.PID = s.Network.IPs, s.Holder.PID
	if _, resources := sandbox.Config(s); len(resources) > 0 {
		now := &runtimeapi.LinuxPodSandboxConfig{}
		if err := decode(resources, now); err != nil {
			return pod, err
		}
		if pod.Config.GetLinux() == nil {
			pod.Config.Linux = &runtimeapi.LinuxPodSandboxConfig{}
		}
		pod.Config.Linux.Overhead, pod.Config.Linux.Resources = now.GetOverhead(), now.GetResources()
	}
	return pod, nil
}

// UpdatePod asks NRI plug-ins about new limits of a pod. A plug-in can refuse them.
func (x *Executor) UpdatePod(ctx context.Context, s sandbox.State, overhead, resources *runtimeapi.LinuxContainerResources) error {
	return x.NRI.UpdatePod(ctx, string(s.ID), overhead, resources, func() (nri.Pod, error) { return x.NRIPod(s) })
}

// PodUpdated tells NRI plug-ins that a pod's limits are new.
func (x *Executor) PodUpdated(ctx context.Context, s sandbox.State) {
	x.NRI.PostUpdatePod(ctx, string(s.ID), func() (nri.Pod, error) { return x.NRIPod(s) })
}

// NRIContainer returns what NRI plug-ins get to know of a container.
func (x *Executor) NRIContainer(s container.State) (nri.Container, error) {
	_, c, err := x.nriFacts(container.SpecOf(s), stateOf(s))()
	return c, err
}

// stateOf adds to a hook's facts where a container is in its life.
func stateOf(s container.State) func(*nri.Container) {
	return func(c *nri.Container) {
		c.FinishedAt, c.ExitCode = s.Run.Exit.At, s.Run.Exit.Code
		switch s.Phase {
		case container.Creating, container.Created, container.Starting:
			c.State = nri.Created
		case container.Running:
			c.State = nri.Running
		case container.Exited, container.Removing:
			c.State = nri.Stopped
		case container.Absent, container.Unwinding, container.Failed, container.Removed:
			c.State = nri.Unknown
		}
	}
}

// ContainerEnded tells NRI plug-ins that a container has ended, if no effect has yet.
func (x *Executor) ContainerEnded(ctx context.Context, s container.State) {
	x.NRI.StopContainer(ctx, string(s.ID), x.nriFacts(container.SpecOf(s), stateOf(s)))
}

// PodStopped tells NRI plug-ins that no process of a pod is left, if no effect has yet.
func (x *Executor) PodStopped(ctx context.Context, s sandbox.State) {
	x.NRI.StopPod(ctx, string(s.ID), x.nriPod(sandbox.PodOf(s)))
}

func (c *Config) nriPod(pod sandbox.Pod) func() (nri.Pod, error) {
	return func() (nri.Pod, error) {
		config := &runtimeapi.PodSandboxConfig{}
		if err := decode(pod.Config, config); err != nil {
			return nri.Pod{}, err
		}
		return nri.Pod{ID: string(pod.ID), Handler: pod.Handler, Config: config, Namespaces: c.pinned(pod, config)}, nil
	}
}

// pinned are the pod's own namespaces.
func (c *Config) pinned(pod sandbox.Pod, config *runtimeapi.PodSandboxConfig) (pinned []specs.LinuxNamespace) {
	paths := c.namespacePaths(pod, config)
	for _, n := range []specs.LinuxNamespace{
		{Type: specs.UserNamespace, Path: paths.User}, {Type: specs.NetworkNamespace, Path: paths.Net}, {Type: specs.IPCNamespace, Path: paths.IPC}, {Type: specs.UTSNamespace, Path: paths.UTS},
	} {
		if n.Path != "" {
			pinned = append(pinned, n)
		}
	}
	return pinned
}

// nriFacts returns what a hook tells of a container; more, if not nil, adds what only the
// caller knows. The spec is the bundle's, unless more sets it.
func (c *Config) nriFacts(of container.Spec, more func(*nri.Container)) nri.Facts {
	return func() (nri.Pod, nri.Container, error) {
		config, pod, err := effective(of)
		if err != nil {
			return nri.Pod{}, nri.Container{}, err
		}
		hostNetwork := pod.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() == runtimeapi.NamespaceMode_NODE
		facts := nri.Container{
			ID: string(of.ID), PodID: string(of.Sandbox), Config: config, ImageID: of.Image,
			State: nri.Created, PID: of.Init.PID, CreatedAt: of.CreatedAt, StartedAt: of.StartedAt,
		}
		if !of.StartedAt.IsZero() {
			facts.State = nri.Running
		}
		if more != nil {
			more(&facts)
		}
		if facts.Spec == nil {
			if facts.Spec, err = c.bundleSpec(of.ID); err != nil {
				return nri.Pod{}, nri.Container{}, err
			}
		}
		return nri.Pod{
			ID: string(of.Sandbox), Handler: of.Handler, Config: pod,
			Namespaces: c.pinned(sandbox.Pod{ID: of.Sandbox, HostNetwork: hostNetwork}, pod),
		}, facts, nil
	}
}

// bundleSpec is the OCI spec in a container's bundle; nil if there is none.
func (c *Config) bundleSpec(of id.Container) (*specs.Spec, error) {
	data, err := c.runtimeSpec(of)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	s := &specs.Spec{}
	if err == nil {
		err = json.Unmarshal(data, s)
	}
	if err != nil {
		return nil, fmt.Errorf("read the container's OCI spec: %w", err)
	}
	return s, nil
}

// adjust has NRI plug-ins change the spec of a container that is about to be made. If an
// earlier daemon made it from another adjustment, that is an error: what an init has cannot
// be changed any more.
func (x containers) adjust(ctx context.Context, c container.Spec, minMemory int64, s *specs.Spec) (nri.Adjustment, error) {
	made, err := x.NRI.CreateContainer(ctx, string(c.ID), x.nriFacts(c, func(facts *nri.Container) {
		facts.Spec, facts.PID, facts.MinMemory = s, 0, minMemory
	}))
	if err != nil {
		return made, err
	}
	path := filepath.Join(x.bundleDir(c.ID), "nri.json")
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return made, fmt.Errorf("read how NRI plug-ins adjusted the container: %w", err)
	}
	if string(before) == made.JSON {
		return made, nil
	}
	_, err = x.Monitor.Container(ctx, string(c.ID))
	switch {
	case err == nil:
		return made, fault.New(fault.Interrupted, "create container", string(c.ID),
			"the daemon that made it has died, and NRI plug-ins want another adjustment now (%q) than then", made.Plugins)
	case !errors.Is(err, monitor.ErrNotFound):
		return made, err
	}
	if err := os.MkdirAll(x.bundleDir(c.ID), 0o700); err != nil {
		return made, fmt.Errorf("make the container's directory: %w", err)
	}
	if err := os.WriteFile(path, []byte(made.JSON), 0o600); err != nil {
		return made, fmt.Errorf("keep how NRI plug-ins adjusted the container: %w", err)
	}
	return made, nil
}

// blamed adds to the runtime's refusal who changed what it refuses.
func blamed(err error, c container.Spec, a nri.Adjustment) error {
	if len(a.Plugins) == 0 {
		return err
	}
	f := fault.From(err, "create container", string(c.ID))
	f.Reason += "; NRI plug-ins adjusted the container: " + strings.Join(a.Plugins, ", ")
	return &f
}

// startedAt adds to a hook's facts that the container runs.
func startedAt(at time.Time) func(*nri.Container) {
	return func(c *nri.Container) { c.State, c.StartedAt = nri.Running, at }
}

// endedAs adds to a hook's facts how the container ended, as far as it is known.
func endedAs(e *monitor.Exit) func(*nri.Container) {
	return func(c *nri.Container) {
		c.State, c.PID = nri.Stopped, 0
		if e != nil {
			exit := ExitOf(*e)
			c.FinishedAt, c.ExitCode = exit.At, exit.Code
		}
	}
}

// encodeResources returns limits as the machine keeps them; nil for none.
func encodeResources(r *runtimeapi.LinuxContainerResources) ([]byte, error) {
	if r == nil {
		return nil, nil
	}
	b, err := proto.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the container's limits: %w", err)
	}
	return b, nil
}
