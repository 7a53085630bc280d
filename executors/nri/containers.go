package nri

import (
	"context"
	"strings"

	"github.com/containerd/nri/pkg/api"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
)

// Facts returns what a hook on a container tells. It is called only if a plug-in listens.
type Facts func() (Pod, Container, error)

// CreateContainer asks plug-ins what to change in a container that is about to be made,
// and changes its Spec, which facts must return by reference. The zero Adjustment means
// that nothing was changed. The error names the plug-ins that are to blame.
//
// A container that is made again, because a crash hid that it was made before, is asked
// for again: the plug-ins may be others now.
func (d *Driver) CreateContainer(ctx context.Context, id string, facts Facts) (Adjustment, error) {
	if d == nil {
		return Adjustment{}, nil
	}
	made, updates, err := d.create(ctx, id, facts)
	if err != nil {
		return Adjustment{}, refused("create container", id, err)
	}
	for _, u := range updates {
		if err := d.updater.one(ctx, u); err != nil {
			return Adjustment{}, refused("create container", id, err)
		}
	}
	return made, nil
}

func (d *Driver) create(ctx context.Context, id string, facts Facts) (made Adjustment, updates []*api.ContainerUpdate, err error) {
	leave, err := d.enter(ctx)
	if err != nil {
		return made, nil, err
	}
	defer leave()
	if err := d.validatorMissing(); err != nil {
		return made, nil, err
	}
	d.told.container(id)
	if !d.listening() {
		return made, nil, nil
	}
	pod, container, err := d.facts(facts)
	if err != nil {
		return made, nil, err
	}
	complete(container.Spec)
	var answer *api.CreateContainerResponse
	seen := container.toNRI()
	plugins, err := d.call(func() error {
		answer, err = d.library.CreateContainer(ctx, &api.CreateContainerRequest{Pod: pod.toNRI(), Container: seen})
		return err
	})
	if err != nil {
		return made, nil, err
	}
	adjustment := answer.GetAdjust()
	if adjustment != nil {
		adjustment.Env = append(adjustment.Env, forgotten(&container, seen, adjustment)...)
	}
	made, err = d.adjust(&container, adjustment, plugins)
	return made, answer.GetUpdate(), err
}

// forgotten are the removals of variables that the library shows to later plug-ins, in what
// they see of the container, and then leaves out of its answer.
func forgotten(c *Container, seen *api.Container, a *api.ContainerAdjustment) (removals []*api.KeyValue) {
	names := map[string]bool{}
	for _, e := range seen.GetEnv() {
		name, _, _ := strings.Cut(e, "=")
		names[name] = true
	}
	for _, e := range a.GetEnv() {
		names[api.ClearRemovalMarker(e.GetKey())] = true
	}
	for _, e := range c.Spec.Process.Env {
		if name, _, _ := strings.Cut(e, "="); !names[name] {
			removals = append(removals, &api.KeyValue{Key: api.MarkForRemoval(name)})
		}
	}
	return removals
}

// PostCreateContainer tells plug-ins that a container was made.
func (d *Driver) PostCreateContainer(ctx context.Context, id string, facts Facts) {
	d.tellOfContainer(ctx, "PostCreateContainer", id, facts, func(pod *api.PodSandbox, c *api.Container) error {
		return d.library.PostCreateContainer(ctx, &api.PostCreateContainerRequest{Pod: pod, Container: c})
	})
}

// StartContainer tells plug-ins that a container is about to be started. A plug-in can
// refuse that.
func (d *Driver) StartContainer(ctx context.Context, id string, facts Facts) error {
	if d == nil {
		return nil
	}
	leave, err := d.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if !d.listening() {
		return nil
	}
	pod, container, err := d.facts(facts)
	if err == nil {
		_, err = d.call(func() error {
			return d.library.StartContainer(ctx, &api.StartContainerRequest{Pod: pod.toNRI(), Container: container.toNRI()})
		})
	}
	return refused("start container", id, err)
}

// PostStartContainer tells plug-ins that a container was started.
func (d *Driver) PostStartContainer(ctx context.Context, id string, facts Facts) {
	d.tellOfContainer(ctx, "PostStartContainer", id, facts, func(pod *api.PodSandbox, c *api.Container) error {
		return d.library.PostStartContainer(ctx, &api.PostStartContainerRequest{Pod: pod, Container: c})
	})
}

// StopContainer tells plug-ins, once, that a container has ended. Those that they want
// updated because of it are updated later.
func (d *Driver) StopContainer(ctx context.Context, id string, facts Facts) {
	if d == nil {
		return
	}
	leave, err := d.enter(ctx)
	if err != nil {
		return
	}
	defer leave()
	if !d.told.containerEnds(id) || !d.listening() {
		return
	}
	var answer *api.StopContainerResponse
	d.tell("StopContainer", id, func() error {
		pod, container, err := d.facts(facts)
		if err != nil {
			return err
		}
		answer, err = d.library.StopContainer(ctx, &api.StopContainerRequest{Pod: pod.toNRI(), Container: container.toNRI()})
		return err
	})
	d.updater.later(answer.GetUpdate())
}

// RemoveContainer tells plug-ins, once, that a container is gone, and of its end if they do
// not know. That is also how a creation that fails is undone.
func (d *Driver) RemoveContainer(ctx context.Context, id string, facts Facts) {
	if d == nil {
		return
	}
	d.StopContainer(ctx, id, facts)
	if !d.told.has(id) {
		return
	}
	d.tellOfContainer(ctx, "RemoveContainer", id, facts, func(pod *api.PodSandbox, c *api.Container) error {
		return d.library.RemoveContainer(ctx, &api.RemoveContainerRequest{Pod: pod, Container: c})
	})
	d.told.forget(id)
}

// tellOfContainer makes a request that nothing depends on.
func (d *Driver) tellOfContainer(ctx context.Context, hook, id string, facts Facts, request func(*api.PodSandbox, *api.Container) error) {
	if d == nil {
		return
	}
	leave, err := d.enter(ctx)
	if err != nil {
		return
	}
	defer leave()
	if !d.listening() {
		return
	}
	d.tell(hook, id, func() error {
		pod, container, err := d.facts(facts)
		if err != nil {
			return err
		}
		return request(pod.toNRI(), container.toNRI())
	})
}

// facts adds what the driver remembers.
func (d *Driver) facts(of Facts) (Pod, Container, error) {
	pod, container, err := of()
	if pod.IPs == nil {
		pod.IPs = d.told.ips(pod.ID)
	}
	return pod, container, err
}

// refused is the fault of what plug-ins did not let happen.
func refused(op, id string, err error) error {
	if err == nil {
		return nil
	}
	kind := fault.KindOf(err)
	if kind == fault.Internal {
		kind = fault.Precondition
	}
	return fault.New(kind, op, id, "%v", err)
}

// Adjustment is what plug-ins changed in a container.
type Adjustment struct {
	// Plugins are those that asked for changes, as INDEX-NAME, in their order.
	Plugins []string
	// JSON is the ContainerAdjustment of NRI that they make together.
	JSON string
	// Resources are all limits that the container gets; nil if none was changed.
	Resources *cri.LinuxContainerResources
}
