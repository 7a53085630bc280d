package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
)

// plugin is an NRI plug-in in the test's process. It records what it is told; the functions
// decide, if they are not nil, what it answers.
type plugin struct {
	Create      func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error)
	Start       func(*api.Container) error
	Run         func(*api.PodSandbox) error
	Update      func(*api.Container, *api.LinuxResources) ([]*api.ContainerUpdate, error)
	PostCreated func(*api.Container)
	StopPod     func(*api.PodSandbox) error
	UpdatePod   func(*api.LinuxResources) error

	stub         stub.Stub
	synchronized chan struct{}

	mu sync.Mutex
	// told are the hooks, as "HOOK NAME".
	told []string
	// pods and containers are what Synchronize told, by name.
	pods       map[string]*api.PodSandbox
	containers map[string]*api.Container
	// last is what a hook told of a container, by hook.
	last    map[string]*api.Container
	lastPod map[string]*api.PodSandbox
}

// addPlugin connects a plug-in and waits until it is synchronized. It is disconnected at the
// test's end.
func addPlugin(h *Harness, index, name string, p *plugin) *plugin {
	h.t.Helper()
	p.synchronized = make(chan struct{}, 8)
	p.last, p.lastPod = map[string]*api.Container{}, map[string]*api.PodSandbox{}
	connectPlugin(h, index, name, p)
	h.t.Cleanup(func() { p.stub.Stop() })
	return p
}

// connectPlugin connects a plug-in, again if its daemon was restarted.
func connectPlugin(h *Harness, index, name string, p *plugin) {
	h.t.Helper()
	var err error
	p.stub, err = stub.New(p, stub.WithPluginName(name), stub.WithPluginIdx(index), stub.WithSocketPath(h.NRISocket),
		stub.WithOnClose(func() {}), stub.WithLogger(quietStub{h.t}))
	if err == nil {
		// The daemon serves the socket a moment after the CRI's.
		h.Eventually("plug-in "+name+" connects", func() bool {
			err = p.stub.Start(context.Background())
			return err == nil
		})
	}
	if err != nil {
		h.t.Fatalf("connect the plug-in %s: %v", name, err)
	}
	select {
	case <-p.synchronized:
	case <-h.Context().Done():
		h.t.Fatalf("the plug-in %s was not synchronized", name)
	}
}

type quietStub struct{ t testing.TB }

func (quietStub) Debugf(context.Context, string, ...any) {}
func (quietStub) Infof(context.Context, string, ...any)  {}
func (quietStub) Warnf(context.Context, string, ...any)  {}
func (quietStub) Errorf(context.Context, string, ...any) {}

func (p *plugin) note(hook string, pod *api.PodSandbox, c *api.Container) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := pod.GetName()
	if c != nil {
		name = c.GetName()
		p.last[hook] = c
	}
	p.lastPod[hook] = pod
	p.told = append(p.told, hook+" "+name)
}

// Told returns the hooks so far.
func (p *plugin) Told() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.told)
}

// Forget begins the record anew.
func (p *plugin) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = nil
}

// Last is what a hook told last of a container.
func (p *plugin) Last(hook string) *api.Container {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[hook]
}

// LastPod is what a hook told last of a pod.
func (p *plugin) LastPod(hook string) *api.PodSandbox {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lastPod[hook]
}

// Synced are the names of what the last Synchronize told.
func (p *plugin) Synced() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for name := range p.pods {
		names = append(names, "pod "+name)
	}
	for name, c := range p.containers {
		names = append(names, fmt.Sprintf("container %s %s", name, strings.TrimPrefix(c.GetState().String(), "CONTAINER_")))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (p *plugin) Synchronize(_ context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	p.mu.Lock()
	p.pods, p.containers = map[string]*api.PodSandbox{}, map[string]*api.Container{}
	for _, pod := range pods {
		p.pods[pod.GetName()] = pod
	}
	for _, c := range containers {
		p.containers[c.GetName()] = c
	}
	p.mu.Unlock()
	p.synchronized <- struct{}{}
	return nil, nil
}

func (p *plugin) RunPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	p.note("RunPodSandbox", pod, nil)
	if p.Run != nil {
		return p.Run(pod)
	}
	return nil
}

func (p *plugin) UpdatePodSandbox(_ context.Context, pod *api.PodSandbox, _, r *api.LinuxResources) error {
	p.note("UpdatePodSandbox", pod, nil)
	if p.UpdatePod != nil {
		return p.UpdatePod(r)
	}
	return nil
}

func (p *plugin) PostUpdatePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	p.note("PostUpdatePodSandbox", pod, nil)
	return nil
}

func (p *plugin) StopPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	p.note("StopPodSandbox", pod, nil)
	if p.StopPod != nil {
		return p.StopPod(pod)
	}
	return nil
}

func (p *plugin) RemovePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	p.note("RemovePodSandbox", pod, nil)
	return nil
}

func (p *plugin) CreateContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	p.note("CreateContainer", pod, c)
	if p.Create != nil {
		return p.Create(pod, c)
	}
	return nil, nil, nil
}

func (p *plugin) PostCreateContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) error {
	p.note("PostCreateContainer", pod, c)
	if p.PostCreated != nil {
		p.PostCreated(c)
	}
	return nil
}

func (p *plugin) StartContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) error {
	p.note("StartContainer", pod, c)
	if p.Start != nil {
		return p.Start(c)
	}
	return nil
}

func (p *plugin) PostStartContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) error {
	p.note("PostStartContainer", pod, c)
	return nil
}

func (p *plugin) UpdateContainer(_ context.Context, pod *api.PodSandbox, c *api.Container, r *api.LinuxResources) ([]*api.ContainerUpdate, error) {
	p.note("UpdateContainer", pod, c)
	if p.Update != nil {
		return p.Update(c, r)
	}
	return nil, nil
}

func (p *plugin) PostUpdateContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) error {
	p.note("PostUpdateContainer", pod, c)
	return nil
}

func (p *plugin) StopContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) ([]*api.ContainerUpdate, error) {
	p.note("StopContainer", pod, c)
	return nil, nil
}

func (p *plugin) RemoveContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) error {
	p.note("RemoveContainer", pod, c)
	return nil
}
