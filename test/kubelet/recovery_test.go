package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	core "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/audit"
	"github.com/stele-runtime/stele/test/images"
)

// crowd runs pods with a container that counts its lives, and a probe.
func (n *node) crowd(prefix string, count int) (pods []*pod) {
	n.t.Helper()
	for i := range count {
		main := n.shell("main", "echo life >>/share/lives; while :; do sleep 1; done")
		main.LivenessProbe = &core.Probe{
			ProbeHandler: core.ProbeHandler{Exec: &core.ExecAction{Command: []string{"true"}}}, PeriodSeconds: 1, TimeoutSeconds: 30, FailureThreshold: 30,
		}
		pods = append(pods, n.write(withScratch(manifest(fmt.Sprintf("%s-%d", prefix, i), main))))
	}
	return pods
}

// ids waits until the pods are ready, and returns their containers' ids.
func (n *node) ids(pods []*pod) map[string]string {
	n.t.Helper()
	ids := map[string]string{}
	for _, p := range pods {
		ids[p.name] = container(p.wait("is ready", ready), "main").ContainerID
	}
	return ids
}

// unharmed checks that the pods have the same containers, still and again, once the kubelet has
// looked at them all several times.
func (n *node) unharmed(pods []*pod, before map[string]string) {
	n.t.Helper()
	fresh := n.runReady(manifest("fresh", n.shell("main", "exec sleep 3600")))
	fresh.exec("main", "true")
	fresh.delete()
	fresh.waitEnded()
	after := n.ids(pods)
	for name, id := range before {
		same(n.t, "container of "+name, after[name], id)
	}
	for _, p := range pods {
		same(n.t, "sandboxes of "+p.name, len(p.sandboxes()), 1)
		same(n.t, "lives of "+p.name, p.exec("main", "cat", "/share/lives"), "life")
	}
}

func kubeletRestarted(n *node) {
	pods := n.crowd("survives-kubelet", 4)
	before := n.ids(pods)
	n.stopKubelet()
	n.startKubelet()
	n.unharmed(pods, before)
}

func steleKilled(n *node) {
	pods := n.crowd("survives-stele", 4)
	before := n.ids(pods)
	for range 2 {
		n.Daemon.Kill9()
		n.Daemon.Start()
		n.unharmed(pods, before)
	}
}

// steleKilledStarting: a kill at any moment of a pod's start leaves none stuck, nothing runs
// twice, and the kubelet counts no restart.
func steleKilledStarting(n *node) {
	var pods []*pod
	for i := range 5 {
		more := n.crowd(fmt.Sprintf("starting-%d", i), 2)
		p := more[0]
		// Each time a little later in the start.
		n.until("the pod's start has begun", func() error {
			if p.step() < i {
				return fmt.Errorf("it is at step %d, want %d", p.step(), i)
			}
			return nil
		})
		n.Daemon.Kill9()
		n.Daemon.Start()
		pods = append(pods, more...)
	}
	n.unharmed(pods, n.ids(pods))
	for _, p := range pods {
		if restarts := container(p.status(), "main").RestartCount; restarts > 0 && !p.leftCreated() {
			n.t.Errorf("pod %s has %d restarts", p.name, restarts)
		}
	}
}

// leftCreated reports whether the daemon was killed in the moment between the end of the pod's
// first CreateContainer and its StartContainer. A kubelet makes another container instead of
// one that it finds created, and so counts a restart; no program has run twice.
func (p *pod) leftCreated() bool {
	p.n.t.Helper()
	for _, c := range p.containers() {
		if c.Metadata.Attempt > 0 {
			continue
		}
		at := map[string]uint64{}
		for _, e := range events(p.n, c.Id) {
			at[e.Type[:strings.LastIndex(e.Type, ".")]] = e.Sequence
		}
		if at["container.ContainerCreated"] == 0 || at["container.StartRequested"] != 0 {
			return false
		}
		for _, e := range events(p.n, "node") {
			if strings.HasPrefix(e.Type, "node.DaemonStarted.") && e.Sequence > at["container.ContainerRequested"] && e.Sequence < at["container.ContainerCreated"] {
				return false
			}
		}
		return true
	}
	return false
}

// event is an event of Stele's log.
type event struct {
	Sequence uint64
	Type     string
}

// events are those of a pod, a container, or the node itself.
func events(n *node, of string) (all []event) {
	n.t.Helper()
	for line := range strings.Lines(n.Stele("events", "-o", "wide", of, "--json")) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			n.t.Fatalf("the event %q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

// containers are the pod's, asked of Stele.
func (p *pod) containers() []*cri.Container {
	p.n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := p.n.Runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{LabelSelector: p.label()}})
	if err != nil {
		p.n.t.Fatal(err)
	}
	return answer.Containers
}

// step is how far a pod is: 0 nothing, 1 its sandbox is there, 2 ready, 3 its container is there,
// 4 it runs.
func (p *pod) step() int {
	p.n.t.Helper()
	if containers := p.containers(); len(containers) > 0 {
		if containers[0].State == cri.ContainerState_CONTAINER_RUNNING {
			return 4
		}
		return 3
	}
	sandboxes := p.sandboxes()
	switch {
	case len(sandboxes) == 0:
		return 0
	case sandboxes[0].State == cri.PodSandboxState_SANDBOX_READY:
		return 2
	}
	return 1
}

func monitorKilled(n *node) {
	pods := n.crowd("survives-monitor", 4)
	before := n.ids(pods)
	for _, pid := range n.MonitorPIDs() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			n.t.Fatal(err)
		}
	}
	n.unharmed(pods, before)
	// An end is still noticed.
	if err := syscall.Kill(n.ContainerPID(pods[0].containerID("main")), syscall.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	pods[0].wait("is restarted", func(s core.PodStatus) bool {
		c := container(s, "main")
		return c.RestartCount == 1 && c.State.Running != nil && c.LastTerminationState.Terminated != nil
	})
}

// sixty pods at once: all run, all are gone again, and so is everything of theirs.
func sixty(n *node) {
	before, err := audit.Take(n.Scope)
	if err != nil {
		n.t.Fatal(err)
	}
	var pods []*pod
	for i := range 60 {
		pods = append(pods, n.write(manifest(fmt.Sprintf("sixty-%d", i), n.shell("main", "exec sleep 3600"))))
	}
	addresses := map[string]bool{}
	for _, p := range pods {
		status := p.wait("is ready", ready)
		same(n.t, "restarts of "+p.name, container(status, "main").RestartCount, 0)
		addresses[status.PodIP] = true
	}
	same(n.t, "addresses", len(addresses), len(pods))
	for _, p := range pods {
		p.delete()
	}
	waitNoSandboxes(n)
	n.until("the kubelet removes its pods' cgroups", n.podCgroupsGone)
	audit.Check(n.t, n.Scope, before)
}

// waitNoSandboxes waits until the kubelet has removed all that have ended.
func waitNoSandboxes(n *node) {
	n.t.Helper()
	n.until("the kubelet removes all sandboxes", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		left, err := n.Runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
		if err == nil && len(left.Items) > 0 {
			err = fmt.Errorf("%d are left, one is %v", len(left.Items), left.Items[0])
		}
		return err
	})
}

// imageGC: the kubelet's garbage collection removes what no pod uses, and not what is pinned.
func imageGC(n *node) {
	push := func(name string) string {
		ref := n.Registry.Push(n.t, "kubelet/"+name+":latest", images.Build(n.t, images.Spec{Config: v1.Config{}, Layers: [][]images.File{{
			{Path: name, Mode: 0o644, Content: []byte(strings.Repeat(name, 1000))},
		}}}))
		n.Pull(ref)
		return ref
	}
	unused, pinned := push("unused"), push("pinned")
	p := n.runReady(manifest("user", n.shell("main", "exec sleep 3600")))
	n.stopKubelet()
	// A disk that is too full has it collect within seconds, instead of every five minutes. It
	// does not evict static pods.
	n.configure(map[string]any{
		"imageMinimumGCAge": "1ns",
		"evictionHard":      map[string]string{"nodefs.available": "99%", "imagefs.available": "99%"},
	})
	n.startKubelet()
	n.until("the unused image is removed", func() error {
		if n.hasImage(unused) {
			return fmt.Errorf("%s is there", unused)
		}
		return nil
	})
	if !n.hasImage(pinned) {
		n.t.Error("the pinned image was removed")
	}
	if !n.hasImage(n.Busybox) {
		n.t.Error("an image in use was removed")
	}
	same(n.t, "restarts", container(p.wait("is ready", ready), "main").RestartCount, 0)
	n.stopKubelet()
	n.configure(nil)
	for _, ref := range []string{n.Tester, n.health} {
		n.Pull(ref)
	}
	n.startKubelet()
}

func (n *node) hasImage(ref string) bool {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	answer, err := n.Images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: ref}})
	if err != nil {
		n.t.Fatalf("status of %s: %v", filepath.Base(ref), err)
	}
	return answer.Image != nil
}
