package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
)

// TestRollback starts a daemon whose log has records of a newer version, for a running
// container and for a pod: they stay in view as unknown and not ready, and ending the pods
// ends their processes.
func TestRollback(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	broken, odd, well := h.RunPod(h.PodConfig("broken")), h.RunPod(h.PodConfig("odd")), h.RunPod(h.PodConfig("well"))
	sick := broken.Run(h.ContainerConfig("sick"))
	inOdd := odd.Run(h.ContainerConfig("in-odd"))
	healthy := well.Run(h.ContainerConfig("healthy"))
	pids := []int{h.ContainerPID(sick), h.ContainerPID(inOdd)}
	h.Daemon.Stop()
	h.fromTheFuture("container/"+sick, "sandbox/"+odd.ID)
	h.Daemon.Start()

	status, err := h.Runtime.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: sick})
	if err != nil || status.GetStatus().GetState() != runtimeapi.ContainerState_CONTAINER_UNKNOWN || status.GetStatus().GetReason() == "" {
		t.Errorf("the container is shown as %v, %v", status.GetStatus(), err)
	}
	if state := odd.Status().GetStatus().GetState(); state != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("the pod is %v", state)
	}
	for _, pid := range pids {
		if !alive(pid) {
			t.Errorf("process %d was ended, and nobody had asked for that", pid)
		}
	}
	for _, pod := range []*Pod{broken, odd} {
		pod.Stop()
		pod.Remove()
	}
	for _, pid := range pids {
		h.Eventually("the processes are gone", func() bool { return !alive(pid) })
	}
	h.Eventually("nothing of them is listed", func() bool {
		containers, err := h.Runtime.ListContainers(context.Background(), &runtimeapi.ListContainersRequest{})
		return err == nil && len(containers.GetContainers()) == 1 && containers.GetContainers()[0].GetId() == healthy
	})
	// The next daemon does not find them again.
	h.Daemon.Kill9()
	h.Daemon.Start()
	containers, err := h.Runtime.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
	if err != nil || len(containers.GetContainers()) != 1 {
		t.Errorf("listed are %v, %v", containers, err)
	}
}

// fromTheFuture appends a record that no version knows to streams of a daemon that does not
// run.
func (h *Harness) fromTheFuture(streams ...string) {
	h.t.Helper()
	log, err := boltlog.Open(boltlog.Options{Path: filepath.Join(h.Root, "events.db")})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, name := range streams {
		stream := eventlog.Stream(name)
		info, _, err := log.Stream(h.t.Context(), stream)
		if err == nil {
			_, err = log.Append(h.t.Context(), eventlog.Append{
				Stream: stream, Expected: info.Version, Entries: []eventlog.Entry{{Type: "stele.OfTheFuture.v1", Schema: 1}},
			})
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		h.t.Fatal(err)
	}
}

func alive(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}
