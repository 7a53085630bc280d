package nri

import (
	"context"

	"github.com/containerd/nri/pkg/api"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
)

// UpdateContainer asks plug-ins about a change of a container's limits. It returns the
// change to make, in which zeros are none. A plug-in can refuse it.
func (d *Driver) UpdateContainer(ctx context.Context, id string, change *cri.LinuxContainerResources, facts Facts) (*cri.LinuxContainerResources, error) {
	if d == nil {
		return change, nil
	}
	own, others, err := d.askUpdate(ctx, id, change, facts)
	if err != nil {
		return nil, refused("update container", id, err)
	}
	for _, u := range others {
		if err := d.updater.one(ctx, u); err != nil {
			return nil, refused("update container", id, err)
		}
	}
	return own, nil
}

// askUpdate also returns the changes of other containers that plug-ins want with it.
func (d *Driver) askUpdate(ctx context.Context, id string, change *cri.LinuxContainerResources, facts Facts) (own *cri.LinuxContainerResources, others []*api.ContainerUpdate, err error) {
	leave, err := d.enter(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	if !d.listening() {
		return change, nil, nil
	}
	pod, container, err := d.facts(facts)
	if err != nil {
		return nil, nil, err
	}
	var answer *api.UpdateContainerResponse
	_, err = d.call(func() error {
		answer, err = d.library.UpdateContainer(ctx, &api.UpdateContainerRequest{
			Pod: pod.toNRI(), Container: container.toNRI(), LinuxResources: fromCRI(change),
		})
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	own = change
	for _, u := range answer.GetUpdate() {
		switch {
		case u == nil: // the library's way to say that nobody touched the change
		case u.GetContainerId() != id:
			others = append(others, u)
		default:
			if err := checkText("", u.ProtoReflect()); err != nil {
				return nil, nil, err
			}
			if own, err = toCRI(u.GetLinux().GetResources()); err != nil {
				return nil, nil, err
			}
			own.OomScoreAdj = change.GetOomScoreAdj()
		}
	}
	return own, others, nil
}

// PostUpdateContainer tells plug-ins that a container's limits were changed.
func (d *Driver) PostUpdateContainer(ctx context.Context, id string, facts Facts) {
	d.tellOfContainer(ctx, "PostUpdateContainer", id, facts, func(pod *api.PodSandbox, c *api.Container) error {
		return d.library.PostUpdateContainer(ctx, &api.PostUpdateContainerRequest{Pod: pod, Container: c})
	})
}

// UpdatePod tells plug-ins that a pod's overhead and limits are about to change. A plug-in
// can refuse it.
func (d *Driver) UpdatePod(ctx context.Context, id string, overhead, resources *cri.LinuxContainerResources, facts func() (Pod, error)) error {
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
	pod, err := facts()
	if err != nil {
		return err
	}
	pod.IPs = d.told.ips(id)
	_, err = d.call(func() error {
		_, err := d.library.UpdatePodSandbox(ctx, &api.UpdatePodSandboxRequest{
			Pod: pod.toNRI(), OverheadLinuxResources: fromCRI(overhead), LinuxResources: fromCRI(resources),
		})
		return err
	})
	if err != nil {
		return fault.New(fault.Precondition, "update pod sandbox", id, "%v", err)
	}
	return nil
}

// PostUpdatePod tells plug-ins that a pod's limits were changed.
func (d *Driver) PostUpdatePod(ctx context.Context, id string, facts func() (Pod, error)) {
	if d == nil {
		return
	}
	leave, err := d.enter(ctx)
	if err != nil {
		return
	}
	defer leave()
	d.tellOfPod("PostUpdatePodSandbox", id, facts, func(pod *api.PodSandbox) error {
		return d.library.PostUpdatePodSandbox(ctx, &api.PostUpdatePodSandboxRequest{Pod: pod})
	})
}
