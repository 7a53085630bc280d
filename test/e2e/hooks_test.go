package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestHooks has an administrator's hooks run at each stage of a container that matches, in
// order, with the container's state on their standard input; and none for another one.
func TestHooks(t *testing.T) {
	t.Parallel()
	first, second := t.TempDir(), t.TempDir()
	h := New(t, programs, Options{Config: fmt.Sprintf("[runtime]\nhooks_dir = [%q, %q]\n", first, second)})
	traces := filepath.Join(h.Share, "traces")
	if err := os.Mkdir(traces, 0o755); err != nil {
		t.Fatal(err)
	}
	writer := hookWriter{h, traces}
	writer.hook(first, "10-annotated", `{"annotations":{"^e2e/trace$":"^yes$"}}`, "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
	writer.hook(first, "20-hidden", `{"always":true}`, "poststop")
	writer.hook(second, "20-hidden", `{"always":false}`, "poststop")
	trace := func() (stages []string) {
		t.Helper()
		content, err := os.ReadFile(filepath.Join(traces, "trace"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			stage, _, _ := strings.Cut(line, " ")
			stages = append(stages, stage)
		}
		return stages
	}
	expect := func(when string, want ...string) {
		t.Helper()
		if got := trace(); !slices.Equal(got, want) {
			t.Errorf("%s, the hooks that ran are %q, want %q", when, got, want)
		}
	}
	pod := h.RunPod(h.PodConfig("hooks"))
	config := h.ContainerConfig("traced")
	config.Annotations["e2e/trace"] = "yes"
	// The container sees the traces under the same path.
	config.Mounts = []*runtimeapi.Mount{{HostPath: traces, ContainerPath: traces}}
	id := pod.Create(config)
	// runc runs the hooks for after the start when it creates a container.
	creation := []string{"createRuntime", "prestart", "createContainer", "poststart"}
	expect("after the creation", creation...)
	h.StartContainer(id)
	h.Eventually("the container's own hook has run", func() bool { return slices.Contains(trace(), "startContainer") })
	start := append(creation, "startContainer")
	expect("after the start", start...)
	content, err := os.ReadFile(filepath.Join(traces, "trace"))
	if err != nil || strings.Count(string(content), `"id":"`+id+`"`) != len(start) {
		t.Errorf("not every hook is told of the container %s: %v\n%s", id, err, content)
	}
	h.StartContainer(id) // once more
	other := pod.Run(h.ContainerConfig("other"))
	h.StopContainer(other, 0)
	h.RemoveContainer(other)
	expect("after another container's life", start...)
	h.StopContainer(id, 0)
	h.RemoveContainer(id)
	expect("after the removal", append(start, "poststop")...)

	// A file that is none keeps containers from being created, and a daemon from starting.
	h.write(filepath.Join(second, "99-bad.json"), `{"version":"1.0.0"}`)
	_, err = pod.TryCreate(h.ContainerConfig("refused"))
	h.Refused(err, codes.FailedPrecondition, filepath.Join(second, "99-bad.json"))
	if err := os.Remove(filepath.Join(second, "99-bad.json")); err != nil {
		t.Fatal(err)
	}
	pod.Run(h.ContainerConfig("refused"))
}

// hookWriter writes hooks that leave traces in a directory.
type hookWriter struct {
	*Harness
	traces string
}

// hook writes a file for each stage, of a hook that adds its stage, and what it is told of
// the container, to the trace. The program must be the node's and the container's: a hook of
// startContainer runs there.
func (w hookWriter) hook(dir, file, when string, stages ...string) {
	w.t.Helper()
	for _, stage := range stages {
		script := fmt.Sprintf(`read state; echo "%s $state" >> %s/trace`, stage, w.traces)
		w.write(filepath.Join(dir, file+"-"+stage+".json"), fmt.Sprintf(
			`{"version":"1.0.0","hook":{"path":"/bin/sh","args":["sh","-c",%q],"env":["PATH=/bin:/usr/bin"],"timeout":20},"when":%s,"stages":[%q]}`,
			script, when, stage))
	}
}
