package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestPowerFailure takes away the node's kernel, and the log's unsynced end: what exists is
// known and has ended, exits are unchanged, unknown things on the disk go, and all can be
// removed.
func TestPowerFailure(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{OwnBoot: true})
	pod, stopped := h.RunPod(h.PodConfig("pod")), h.RunPod(h.PodConfig("stopped"))
	ended := pod.Run(h.ContainerConfig("ended", "sh", "-c", "exit 5"))
	h.WaitExit(ended)
	created := pod.Create(h.ContainerConfig("created"))
	running := pod.Run(h.ContainerConfig("running", "sleep", "1000"))
	kept := h.KeepLog()

	// All of this is volatile. The last step stands for a container whose removal is in the
	// log, but not on the disk.
	h.Exec(running, "true")
	h.RemoveContainer(created)
	stopped.Stop()
	back := pod.Create(h.ContainerConfig("back"))
	if err := os.MkdirAll(filepath.Join(h.Root, "volumes", back, "0"), 0o755); err != nil { // as of an image with a volume
		t.Fatal(err)
	}
	h.PowerFailure(kept)

	for id, code := range map[string]int32{ended: 5, running: -1} {
		got := h.WaitExit(id)
		if got.ExitCode != code {
			t.Errorf("%s ended with %d, want %d", got.Metadata.Name, got.ExitCode, code)
		}
		if unknown := strings.Contains(got.Reason+got.Message, "reboot"); unknown != (code < 0) {
			t.Errorf("%s: reason %q, message %q", got.Metadata.Name, got.Reason, got.Message)
		}
	}
	// It was removed, and is known again, without its files. It can still be removed.
	h.WaitExit(created)
	h.RemoveContainer(created)
	_, err := h.Runtime.ContainerStatus(h.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: back})
	h.Refused(err, codes.NotFound, back)
	for _, p := range []*Pod{pod, stopped} {
		h.Eventually("the pod is not ready", func() bool {
			return p.Status().Status.State == runtimeapi.PodSandboxState_SANDBOX_NOTREADY
		})
	}
	if events := h.Stele("events", "-o", "wide"); !strings.Contains(events, "NodeRebooted") {
		t.Errorf("the history has no reboot:\n%s", lastLines(events, 50))
	}
	// The node works, and the names are free.
	again := h.PodConfig("pod")
	again.Metadata.Attempt++
	if code := h.WaitExit(h.RunPod(again).Run(h.ContainerConfig("again", "sh", "-c", "exit 6"))).ExitCode; code != 6 {
		t.Errorf("exit code %d", code)
	}
}
