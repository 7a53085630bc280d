package e2e

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestInheritedDescriptors starts the daemon with a pipe that its parent forgot to close.
// Whoever waits for the pipe's end, as a script that reads the output of what it started,
// waits for none of the node's programs.
func TestInheritedDescriptors(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	h.Daemon.Stop()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h.Daemon.process.inherited = w
	h.Daemon.Start()
	h.Daemon.process.inherited = nil
	w.Close()

	config := h.PodConfig("inherits")
	config.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
	pod := h.RunPod(config)
	pod.Run(h.ContainerConfig("sleeps", "sleep", "1000"))
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the pipe is still open somewhere: %v", err)
	}
}
