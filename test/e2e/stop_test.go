package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("codes"))
	for _, c := range []struct {
		script string
		code   int32
		reason string
	}{
		{"exit 0", 0, "Completed"}, {"exit 1", 1, "Error"}, {"exit 42", 42, "Error"}, {"exit 255", 255, "Error"},
		// A signal from its own namespace cannot kill an init: so a child is killed.
		{"sh -c 'kill -9 $$'; exit $?", 137, "Error"},
	} {
		t.Run(c.script, func(t *testing.T) {
			h := h.In(t)
			got := h.WaitExit(pod.Run(h.ContainerConfig(fmt.Sprintf("c%d", c.code), "sh", "-c", c.script)))
			if got.ExitCode != c.code || got.Reason != c.reason {
				t.Errorf("exit code %d, reason %q; want %d, %q", got.ExitCode, got.Reason, c.code, c.reason)
			}
			if got.StartedAt < got.CreatedAt || got.FinishedAt < got.StartedAt {
				t.Errorf("created %d, started %d, finished %d: out of order", got.CreatedAt, got.StartedAt, got.FinishedAt)
			}
		})
	}
	t.Run("no such program", func(t *testing.T) {
		h := h.In(t)
		id, err := pod.TryCreate(h.ContainerConfig("absent", "/no/such/program"))
		if err == nil {
			_, err = h.Runtime.StartContainer(h.Context(), &runtimeapi.StartContainerRequest{ContainerId: id})
		}
		if err == nil {
			t.Fatal("a program that is not there was started")
		}
	})
}

func TestStopContainer(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("stop"))

	t.Run("handles the signal", func(t *testing.T) { stopHandlesTheSignal(t, h.In(t), pod) })
	t.Run("ignores the signal", func(t *testing.T) { stopIgnoresTheSignal(t, h.In(t), pod) })
	t.Run("no grace", func(t *testing.T) { stopWithoutGrace(t, h.In(t), pod) })
	t.Run("stop signal of the configuration", func(t *testing.T) { stopByConfiguredSignal(t, h.In(t), pod) })
	t.Run("a caller that goes away", func(t *testing.T) { stopWhoseCallerGoesAway(t, h.In(t), pod) })
	t.Run("twice", func(t *testing.T) { stopTwice(h.In(t), pod) })
	t.Run("never started", func(t *testing.T) { stopNeverStarted(h.In(t), pod) })
	t.Run("remove while it runs", func(t *testing.T) { removeWhileItRuns(t, h.In(t), pod) })
}

func handlesSignals(h *Harness, pod *Pod, config *runtimeapi.ContainerConfig) {
	h.t.Helper()
	h.Eventually("the container handles signals", func() bool { return len(pod.Log(config)) > 0 })
}

func stopHandlesTheSignal(t *testing.T, h *Harness, pod *Pod) {
	config := h.TesterConfig("polite", "term", "3")
	id := pod.Run(config)
	handlesSignals(h, pod, config)
	h.StopContainer(id, 100)
	if code := h.ContainerStatus(id).ExitCode; code != 3 {
		t.Errorf("exit code %d, want its own 3", code)
	}
}

func stopIgnoresTheSignal(t *testing.T, h *Harness, pod *Pod) {
	config := h.TesterConfig("stubborn", "term", "-1")
	id := pod.Run(config)
	handlesSignals(h, pod, config)
	h.StopContainer(id, 1)
	if code := h.ContainerStatus(id).ExitCode; code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	if log := pod.Log(config); len(log) != 2 || log[1].Text != "terminated" {
		t.Errorf("it didn't get the signal before it was killed: %v", log)
	}
}

func stopWithoutGrace(t *testing.T, h *Harness, pod *Pod) {
	config := h.TesterConfig("sudden", "term", "3")
	id := pod.Run(config)
	handlesSignals(h, pod, config)
	h.StopContainer(id, 0)
	if code := h.ContainerStatus(id).ExitCode; code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
}

func stopByConfiguredSignal(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("custom", "sh", "-c", "trap 'exit 12' USR1; echo ready; while :; do sleep 0.05; done")
	config.StopSignal = runtimeapi.Signal_SIGNAL_SIGUSR1
	id := pod.Run(config)
	handlesSignals(h, pod, config)
	h.StopContainer(id, 100)
	if code := h.ContainerStatus(id).ExitCode; code != 12 {
		t.Errorf("exit code %d, want 12", code)
	}
}

// A caller that goes away cancels its escalation, as in containerd's
// TestContainerStopCancellation.
func stopWhoseCallerGoesAway(t *testing.T, h *Harness, pod *Pod) {
	config := h.TesterConfig("reprieved", "term", "-1")
	id := pod.Run(config)
	handlesSignals(h, pod, config)
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	_, err := h.Runtime.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 2})
	h.Refused(err, codes.DeadlineExceeded)
	// It runs long after the two seconds.
	time.Sleep(4 * time.Second)
	if state := h.ContainerStatus(id).State; state != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("the container is %s, although nobody waits for its end", state)
	}
	h.StopContainer(id, 0)
}

func stopTwice(h *Harness, pod *Pod) {
	config := h.TesterConfig("twice", "term", "0")
	id := pod.Run(config)
	handlesSignals(h, pod, config)
	h.StopContainer(id, 100)
	h.StopContainer(id, 100)
	h.RemoveContainer(id)
	h.StopContainer(id, 100)
	h.RemoveContainer(id)
}

func stopNeverStarted(h *Harness, pod *Pod) {
	id := pod.Create(h.ContainerConfig("fresh"))
	h.StopContainer(id, 1)
	h.RemoveContainer(id)
}

func removeWhileItRuns(t *testing.T, h *Harness, pod *Pod) {
	id := pod.Run(h.TesterConfig("busy", "term", "-1"))
	h.RemoveContainer(id)
	_, err := h.Runtime.ContainerStatus(h.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if status.Code(err) != codes.NotFound {
		t.Errorf("the status of a removed container: %v", err)
	}
}

// The kubelet restarts a container as a new one with the next attempt.
func TestAttempts(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	podConfig := h.PodConfig("again")
	pod := h.RunPod(podConfig)
	var ids []string
	for attempt := range uint32(3) {
		config := h.ContainerConfig("c", "sh", "-c", fmt.Sprintf("exit %d", attempt))
		config.Metadata.Attempt = attempt
		config.LogPath = fmt.Sprintf("c/%d.log", attempt)
		id := pod.Run(config)
		if got := h.WaitExit(id); got.ExitCode != int32(attempt) || got.Metadata.Attempt != attempt {
			t.Errorf("attempt %d: %v", attempt, got)
		}
		ids = append(ids, id)
	}
	list, err := h.Runtime.ListContainers(h.Context(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{PodSandboxId: pod.ID}})
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, c := range list.Containers {
		listed = append(listed, c.Id)
	}
	sameSet(t, listed, ids)

	// A sandbox that ended is followed by another attempt of the same pod.
	pod.Stop()
	next := h.PodConfig("again")
	next.Metadata.Uid, next.Metadata.Attempt = podConfig.Metadata.Uid, 1
	if second := h.RunPod(next); second.ID == pod.ID {
		t.Error("the second attempt is the first")
	}
}
