package e2e

import (
	"strings"
	"testing"
)

// TestPostmortemWhoAsked: of each end by SIGKILL the tools say who asked for it, and none of
// those that somebody asked for counts as something that went wrong.
func TestPostmortemWhoAsked(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("asked"))
	deaf := func(name string) string {
		config := h.TesterConfig(name, "term", "-1")
		id := pod.Run(config)
		handlesSignals(h, pod, config)
		return id
	}
	h.StopContainer(deaf("at-once"), 0)
	h.StopContainer(deaf("patient"), 1)
	h.RemoveContainer(deaf("removed"))
	deaf("with-pod")
	pod.Stop()
	for name, want := range map[string]string{
		"at-once":  "the kubelet asked for it with StopContainer, without a grace period.",
		"patient":  "the kubelet asked for it with StopContainer, and it had not ended after its grace period of 1 s.",
		"removed":  "the kubelet asked for its removal with RemoveContainer.",
		"with-pod": "its pod was being stopped (StopPodSandbox).",
	} {
		says(t, name, h.Stele("inspect", "e2e/asked/"+name), "was killed (SIGKILL, exit code 137)", want)
	}
	events := h.Stele("events", "e2e/asked")
	says(t, "events", events, "e2e/asked/at-once: SIGKILL due: the kubelet asked for it without a grace period (StopContainer)",
		"e2e/asked/removed: removal requested by the kubelet (RemoveContainer)", "e2e/asked/with-pod: SIGKILL due: its pod is being stopped")
	var marked []string
	for line := range strings.Lines(events) {
		if strings.Contains(line, " ! ") {
			marked = append(marked, line)
		}
	}
	if len(marked) != 1 || !strings.Contains(marked[0], "patient: SIGKILL due: it did not end within its grace period") {
		t.Errorf("only that a grace period ran out needs a look, and these are marked:\n%s", strings.Join(marked, ""))
	}
	pod.Remove()
	h.Audit()
}
