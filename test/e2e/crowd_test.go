package e2e

import (
	"fmt"
	"sync"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestCrowd starts 64 pods at once, each with a container, and takes them down
// at once.
func TestCrowd(t *testing.T) {
	h := New(t, programs, Options{})
	const many = 64
	type life struct {
		pod       string
		container string
		ip        string
	}
	lives := make([]life, many)
	var crowd sync.WaitGroup
	for i := range lives {
		crowd.Go(func() {
			config := h.PodConfig(fmt.Sprintf("p%d", i))
			id, err := h.TryRunPod(config)
			if err != nil {
				t.Errorf("pod %d: %v", i, err)
				return
			}
			pod := &Pod{ID: id, Config: config, h: h}
			lives[i].pod = id
			container, err := pod.TryCreate(h.ContainerConfig("c"))
			if err != nil {
				t.Errorf("container %d: %v", i, err)
				return
			}
			lives[i].container = container
			if _, err := h.Runtime.StartContainer(h.Context(), &runtimeapi.StartContainerRequest{ContainerId: container}); err != nil {
				t.Errorf("start %d: %v", i, err)
			}
			status, err := h.Runtime.PodSandboxStatus(h.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
			if err != nil {
				t.Errorf("status %d: %v", i, err)
				return
			}
			lives[i].ip = status.Status.GetNetwork().GetIp()
		})
	}
	crowd.Wait()
	if t.Failed() {
		return
	}
	ips := map[string]bool{}
	for _, l := range lives {
		ips[l.ip] = true
	}
	if len(ips) != many || ips[""] {
		t.Errorf("%d pods have %d addresses", many, len(ips))
	}
	pods, err := h.Runtime.ListPodSandbox(h.Context(), &runtimeapi.ListPodSandboxRequest{Filter: podIn(runtimeapi.PodSandboxState_SANDBOX_READY)})
	if err != nil || len(pods.Items) != many {
		t.Errorf("%d pods are ready, %v; want %d", len(pods.GetItems()), err, many)
	}
	containers, err := h.Runtime.ListContainers(h.Context(), &runtimeapi.ListContainersRequest{Filter: containerIn(runtimeapi.ContainerState_CONTAINER_RUNNING)})
	if err != nil || len(containers.Containers) != many {
		t.Errorf("%d containers run, %v; want %d", len(containers.GetContainers()), err, many)
	}
	// One monitor for all of them.
	if pids := h.MonitorPIDs(); len(pids) != 1 {
		t.Errorf("%d monitors run, want 1", len(pids))
	}
	for _, l := range lives {
		crowd.Go(func() { h.removePod(l.pod) })
	}
	crowd.Wait()
	h.Audit()
}
