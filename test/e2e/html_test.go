package e2e

import (
	"strings"
	"testing"
)

// TestInspectHTML: the page of a pod and of the whole node come from the daemon, and from the
// directory of a stopped one; the arguments of commands are in none.
func TestInspectHTML(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("paged"))
	h.WaitExit(pod.Run(h.ContainerConfig("app", "sh", "-c", "exit 3 # hunter2")))
	check := func(what, page string, want ...string) {
		t.Helper()
		says(t, what, page, append(want, "<!DOCTYPE html>", "Content-Security-Policy", "exited by itself with code 3", `"e2e/paged"`)...)
		if strings.Contains(page, "hunter2") {
			t.Errorf("%s: the page has the arguments of a command", what)
		}
	}
	check("of the pod", h.Stele("inspect", "e2e/paged", "-o", "html"), "<h1>e2e/paged</h1>")
	check("of the container", h.Stele("inspect", "e2e/paged/app", "-o", "html"), "<h1>e2e/paged/app</h1>")
	check("of the node", h.Stele("inspect", "-o", "html"), "<h1>The whole node</h1>", "daemon")
	h.Daemon.Stop()
	check("of the stopped node's pod", h.Stele("inspect", "paged", "-o", "html", "--root", h.Root), "<h1>e2e/paged</h1>")
	check("of the stopped node", h.Stele("inspect", "-o", "html", "--root", h.Root), "<h1>The whole node</h1>", "daemon stopped")
	h.Daemon.Start()
	pod.Remove()
	h.Audit()
}
