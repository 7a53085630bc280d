package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestHandlersAsTheyAre: Status tells what a handler's runtime can do from when it is installed
// until it is removed; what runs by then can be ended.
func TestHandlersAsTheyAre(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "runtime")
	h := New(t, programs, Options{Handlers: map[string]string{"late": program}})
	features := func(name string) *runtimeapi.RuntimeHandlerFeatures {
		t.Helper()
		answer, err := h.Runtime.Status(h.Context(), &runtimeapi.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, handler := range answer.RuntimeHandlers {
			if handler.Name == name {
				return handler.Features
			}
		}
		t.Fatalf("no handler %s in %v", name, answer.RuntimeHandlers)
		return nil
	}
	none, all := &runtimeapi.RuntimeHandlerFeatures{}, features("runc")
	if proto.Equal(none, all) {
		t.Skip("the node's runc has no features to be seen")
	}
	if got := features("late"); !proto.Equal(got, none) {
		t.Errorf("a runtime that is missing has the features %v", got)
	}
	if err := os.Symlink(h.Programs.Runc, program); err != nil {
		t.Fatal(err)
	}
	h.Eventually("the features are there", func() bool { return proto.Equal(features("late"), all) })
	config := h.PodConfig("late")
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		t.Fatal(err)
	}
	run := &runtimeapi.RunPodSandboxRequest{Config: config, RuntimeHandler: "late"}
	answer, err := h.Runtime.RunPodSandbox(h.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	pod := &Pod{ID: answer.PodSandboxId, Config: config, h: h}
	id := pod.Run(h.ContainerConfig("c"))
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	h.Eventually("the features are gone", func() bool { return proto.Equal(features("late"), none) })
	_, err = h.Runtime.RunPodSandbox(h.Context(), &runtimeapi.RunPodSandboxRequest{Config: h.PodConfig("later"), RuntimeHandler: "late"})
	h.Refused(err, codes.Unavailable, "runtime_handler", "late", program)
	_, err = pod.TryCreate(h.ContainerConfig("more"))
	h.Refused(err, codes.Unavailable, "runtime_handler", "late")
	h.StopContainer(id, 0)
	if state := h.ContainerStatus(id).State; state != runtimeapi.ContainerState_CONTAINER_EXITED {
		t.Errorf("the container is %s", state)
	}
	// To remove what it knows takes the program.
	if err := os.Symlink(h.Programs.Runc, program); err != nil {
		t.Fatal(err)
	}
	h.Eventually("the pod is removed", func() bool {
		_, err := h.Runtime.RemovePodSandbox(h.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod.ID})
		return status.Code(err) == codes.OK
	})
}
