package e2e

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestExecSync(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("exec"))
	config := h.ContainerConfig("c")
	config.WorkingDir = "/tmp"
	config.Envs = []*runtimeapi.KeyValue{{Key: "COLOUR", Value: []byte("red")}}
	id := pod.Run(config)

	t.Run("output", func(t *testing.T) { execOutput(t, h.In(t), id) })
	t.Run("ended by a signal", func(t *testing.T) { execEndedBySignal(t, h.In(t), id) })
	t.Run("program not there", func(t *testing.T) { execProgramNotThere(t, h.In(t), id) })
	t.Run("timeout", func(t *testing.T) { execTimeout(h.In(t), id) })
	t.Run("within the timeout", func(t *testing.T) { execWithinTheTimeout(t, h.In(t), id) })
	t.Run("a child that keeps stdout open", func(t *testing.T) { execChildKeepsStdoutOpen(h.In(t), id) })
	t.Run("output is capped", func(t *testing.T) { execOutputIsCapped(t, h.In(t), pod) })
	t.Run("many at once", func(t *testing.T) { execManyAtOnce(t, h.In(t), id) })
	t.Run("before the start", func(t *testing.T) { execBeforeTheStart(t, h.In(t), pod) })
	t.Run("terminal", func(t *testing.T) { execOnATerminal(t, h.In(t), pod) })
	t.Run("refused", func(t *testing.T) { execRefused(h.In(t), pod, id) })
}

func execOutput(t *testing.T, h *Harness, id string) {
	answer := h.ExecSync(id, "sh", "-c", "echo out; echo err >&2; pwd; echo $COLOUR; exit 7")
	if got := string(answer.Stdout); got != "out\n/tmp\nred\n" {
		t.Errorf("stdout is %q", got)
	}
	if got := string(answer.Stderr); got != "err\n" {
		t.Errorf("stderr is %q", got)
	}
	if answer.ExitCode != 7 {
		t.Errorf("exit code %d, want 7", answer.ExitCode)
	}
}

func execEndedBySignal(t *testing.T, h *Harness, id string) {
	if code := h.ExecSync(id, "sh", "-c", "kill -9 $$").ExitCode; code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
}

func execProgramNotThere(t *testing.T, h *Harness, id string) {
	// The kubelet's probes take an error and a non-zero exit code both as failure.
	answer, err := h.Runtime.ExecSync(h.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"/no/such/program"}})
	if err == nil && answer.ExitCode == 0 {
		t.Error("a program that is not there ran")
	}
}

func execTimeout(h *Harness, id string) {
	_, err := h.Runtime.ExecSync(h.Context(), &runtimeapi.ExecSyncRequest{
		ContainerId: id, Cmd: []string{"sh", "-c", "sleep 4321 & sleep 4321"}, Timeout: 1,
	})
	h.Refused(err, codes.DeadlineExceeded, "timeout")
	h.Eventually("the command and its children are gone", func() bool {
		return !strings.Contains(h.Exec(id, "ps"), "4321")
	})
}

func execWithinTheTimeout(t *testing.T, h *Harness, id string) {
	answer, err := h.Runtime.ExecSync(h.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"echo", "quick"}, Timeout: 100})
	if err != nil || string(answer.Stdout) != "quick\n" {
		t.Errorf("%v, %v", answer, err)
	}
}

func execChildKeepsStdoutOpen(h *Harness, id string) {
	_, err := h.Runtime.ExecSync(h.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", "sleep 9876 & echo begun"}, Timeout: 30})
	// With the output or a timeout, but the call ends.
	if err != nil {
		h.Refused(err, codes.DeadlineExceeded)
	}
}

func execOutputIsCapped(t *testing.T, h *Harness, pod *Pod) {
	other := pod.Run(h.TesterConfig("flooder", "term", "0"))
	answer, err := h.Runtime.ExecSync(h.Context(), &runtimeapi.ExecSyncRequest{ContainerId: other, Cmd: []string{"/tester", "flood", "40000000"}})
	if err != nil {
		// An answer must fit the kubelet's limit of 16 MiB; a refusal says so.
		h.Refused(err, codes.ResourceExhausted)
		return
	}
	if n := len(answer.Stdout) + len(answer.Stderr); n > 16<<20 {
		t.Errorf("%d bytes of output, want at most 16 MiB", n)
	}
}

func execManyAtOnce(t *testing.T, h *Harness, id string) {
	const many = 20
	failed := make(chan error, many)
	for range many {
		go func() {
			_, err := h.Runtime.ExecSync(h.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}})
			failed <- err
		}()
	}
	for range many {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

func execBeforeTheStart(t *testing.T, h *Harness, pod *Pod) {
	id := pod.Create(h.ContainerConfig("created"))
	if got := h.Exec(id, "echo", "ready"); got != "ready" {
		t.Errorf("the command says %q", got)
	}
	h.StartContainer(id)
}

func execOnATerminal(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("terminal")
	config.Tty = true
	answer := h.ExecSync(pod.Run(config), "sh", "-c", "test -t 0 && echo out && echo err >&2; exit 7")
	if string(answer.Stdout) != "out\r\nerr\r\n" || len(answer.Stderr) > 0 || answer.ExitCode != 7 {
		t.Errorf("%q, %q, %d", answer.Stdout, answer.Stderr, answer.ExitCode)
	}
}

func execRefused(h *Harness, pod *Pod, id string) {
	_, err := h.Runtime.ExecSync(h.Context(), &runtimeapi.ExecSyncRequest{ContainerId: "nope", Cmd: []string{"true"}})
	h.Refused(err, codes.NotFound, "container_id")
	_, err = h.Runtime.ExecSync(h.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id})
	h.Refused(err, codes.InvalidArgument, "cmd")
	_, err = h.Runtime.ExecSync(h.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}, Timeout: -1})
	h.Refused(err, codes.InvalidArgument, "timeout")
	ended := pod.Run(h.ContainerConfig("ended", "true"))
	h.WaitExit(ended)
	_, err = h.Runtime.ExecSync(h.Context(), &runtimeapi.ExecSyncRequest{ContainerId: ended, Cmd: []string{"true"}})
	h.Refused(err, codes.FailedPrecondition)
}
