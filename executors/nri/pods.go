package nri

import (
	"context"

	"github.com/containerd/nri/pkg/api"

	"github.com/stele-runtime/stele/actors/fault"
)

// RunPod tells plug-ins of a pod whose namespaces and network are ready. A plug-in can
// refuse it.
func (d *Driver) RunPod(ctx context.Context, id string, ips []string, facts func() (Pod, error)) error {
	if d == nil {
		return nil
	}
	leave, err := d.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	d.told.pod(id, ips)
	if !d.listening() {
		return nil
	}
	pod, err := facts()
	if err != nil {
		return err
	}
	pod.IPs = ips
	_, err = d.call(func() error {
		return d.library.RunPodSandbox(ctx, &api.RunPodSandboxRequest{Pod: pod.toNRI()})
	})
	if err != nil {
		return fault.New(fault.Precondition, "run pod sandbox", id, "%v", err)
	}
	return nil
}

// StopPod tells plug-ins, once, that no process of a pod is left.
func (d *Driver) StopPod(ctx context.Context, id string, facts func() (Pod, error)) {
	if d == nil {
		return
	}
	leave, err := d.enter(ctx)
	if err != nil {
		return
	}
	defer leave()
	if d.told.podEnds(id) {
		d.tellOfPod("StopPodSandbox", id, facts, func(pod *api.PodSandbox) error {
			return d.library.StopPodSandbox(ctx, &api.StopPodSandboxRequest{Pod: pod})
		})
	}
}

// RemovePod tells plug-ins, once, that a pod is gone, and of its end if they do not know.
func (d *Driver) RemovePod(ctx context.Context, id string, facts func() (Pod, error)) {
	if d == nil {
		return
	}
	d.StopPod(ctx, id, facts)
	leave, err := d.enter(ctx)
	if err != nil {
		return
	}
	defer leave()
	defer d.told.forget(id)
	if d.told.has(id) {
		d.tellOfPod("RemovePodSandbox", id, facts, func(pod *api.PodSandbox) error {
			return d.library.RemovePodSandbox(ctx, &api.RemovePodSandboxRequest{Pod: pod})
		})
	}
}

// tellOfPod makes a request that nothing depends on.
func (d *Driver) tellOfPod(hook, id string, facts func() (Pod, error), request func(*api.PodSandbox) error) {
	if !d.listening() {
		return
	}
	d.tell(hook, id, func() error {
		pod, err := facts()
		if err != nil {
			return err
		}
		pod.IPs = d.told.ips(id)
		return request(pod.toNRI())
	})
}
