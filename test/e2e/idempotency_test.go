package e2e

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The kubelet times out and asks again: the rules of DESIGN, "Idempotency".
func TestIdempotency(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})

	t.Run("the same pod again", func(t *testing.T) { againPod(t, h.In(t)) })
	t.Run("the same pod at the same time", func(t *testing.T) { podAtTheSameTime(t, h.In(t)) })
	t.Run("a caller that goes away", func(t *testing.T) { againAfterCallerWentAway(t, h.In(t)) })
	t.Run("the same container again", func(t *testing.T) { againContainer(t, h.In(t)) })
	t.Run("what is gone", func(t *testing.T) { againWhatIsGone(t, h.In(t)) })
	t.Run("a stopped pod under its name", func(t *testing.T) { againStoppedPod(t, h.In(t)) })
}

func againPod(t *testing.T, h *Harness) {
	config := h.PodConfig("again")
	pod := h.RunPod(config)
	if id, err := h.TryRunPod(config); err != nil || id != pod.ID {
		t.Errorf("the same request gave %s, %v; want %s", id, err, pod.ID)
	}
	other := proto.CloneOf(config)
	other.Labels["new"] = "label"
	_, err := h.TryRunPod(other)
	h.Refused(err, codes.AlreadyExists, pod.ID)
}

func podAtTheSameTime(t *testing.T, h *Harness) {
	config := h.PodConfig("twins")
	ids := make([]string, 8)
	var calls sync.WaitGroup
	for i := range ids {
		calls.Go(func() {
			var err error
			if ids[i], err = h.TryRunPod(config); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	h.t.Cleanup(func() { h.removePod(ids[0]) })
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("the same request gave %s and %s", ids[0], id)
		}
	}
	list, err := h.Runtime.ListPodSandbox(h.Context(), &runtimeapi.ListPodSandboxRequest{
		Filter: &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"pod": "twins"}},
	})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("there are %v, %v", list, err)
	}
}

func againAfterCallerWentAway(t *testing.T, h *Harness) {
	config := h.PodConfig("abandoned")
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err := h.Runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config})
	if err == nil {
		t.Log("the pod ran within a millisecond")
	}
	h.RunPod(config)
}

func againContainer(t *testing.T, h *Harness) {
	pod := h.RunPod(h.PodConfig("containers"))
	config := h.ContainerConfig("c")
	id := pod.Create(config)
	if again := pod.Create(config); again != id {
		t.Errorf("the same request gave %s, want %s", again, id)
	}
	h.StartContainer(id)
	h.StartContainer(id)
	h.StopContainer(id, 0)
	h.StartContainer(id) // it was started, although it has ended
	other := proto.CloneOf(config)
	other.Command = []string{"sleep", "1"}
	_, err := pod.TryCreate(other)
	h.Refused(err, codes.AlreadyExists, id)
	// Once it is gone, the name is free.
	h.RemoveContainer(id)
	if next := pod.Create(other); next == id {
		t.Error("a removed container came back")
	}
}

func againWhatIsGone(t *testing.T, h *Harness) {
	pod := h.RunPod(h.PodConfig("gone"))
	id := pod.Run(h.ContainerConfig("c"))
	pod.Stop()
	pod.Stop()
	pod.Remove()
	pod.Remove()
	h.StopContainer(id, 1)
	h.RemoveContainer(id)
	h.StopContainer("0123456789abcdef", 1)
	h.RemoveContainer("0123456789abcdef")
	h.removePod("0123456789abcdef")
	// The name is free.
	if next := h.RunPod(pod.Config); next.ID == pod.ID {
		t.Error("a removed pod came back")
	}
}

func againStoppedPod(t *testing.T, h *Harness) {
	pod := h.RunPod(h.PodConfig("stopped"))
	pod.Stop()
	// It keeps its name until it is removed, although it isn't ready.
	_, err := h.TryRunPod(pod.Config)
	h.Refused(err, codes.AlreadyExists, pod.ID)
}
