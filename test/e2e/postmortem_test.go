package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// says fails the test unless a text has all the words.
func says(t *testing.T, what, text string, words ...string) {
	t.Helper()
	// Lines are wrapped anywhere.
	flat := strings.Join(strings.Fields(text), " ")
	for _, w := range words {
		if !strings.Contains(flat, w) {
			t.Errorf("%s doesn't say %q:\n%s", what, w, text)
		}
	}
}

// TestPostmortemOutOfMemory: of a crash loop, `stele inspect` first says why; so it does from
// the directory of a stopped daemon, and once the pod is gone.
func TestPostmortemOutOfMemory(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("hungry"))
	for attempt := range uint32(3) {
		config := h.ContainerConfig("app", "sh", "-c", "x=x; while :; do x=$x$x; done")
		config.Metadata.Attempt = attempt
		config.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 32 << 20}
		id := pod.Run(config)
		h.WaitExit(id)
		if attempt < 2 {
			h.RemoveContainer(id)
		}
	}
	want := []string{"Pod e2e/hungry is ready", "Container app (attempt 2)", "out of memory", "Its memory limit is 32 MiB", "Before that, container app was out of memory twice.", "runtime create"}
	live := h.Stele("inspect", "e2e/hungry")
	says(t, "inspect", live, want...)
	t.Logf("stele inspect e2e/hungry\n%s", live)
	says(t, "inspect of the container", h.Stele("inspect", "e2e/hungry/app@0"), "Container app was", "out of memory", "It was removed.")
	h.Daemon.Stop()
	says(t, "inspect --root", h.Stele("inspect", "e2e/hungry", "--root", h.Root), want...)
	h.Daemon.Start()
	pod.Remove()
	says(t, "inspect of the removed pod", h.Stele("inspect", "hungry"), "Pod e2e/hungry is gone", "out of memory")
	h.Audit()
}

// TestPostmortemNetworkOwed: of a pod whose network failed, and whose address could not be
// given back, `stele inspect` says both in the plug-in's words.
func TestPostmortemNetworkOwed(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	failures := filepath.Join(h.Share, "failures")
	h.WriteNetwork(map[string]any{"type": "flaky", "failures": failures})
	h.write(failures, "ADD DEL")
	config := h.PodConfig("unlucky")
	h.Eventually("the new configuration is used", func() bool {
		id, err := h.TryRunPod(config)
		if err == nil {
			h.removePod(id)
		}
		return err != nil
	})
	shown := h.Stele("inspect", "e2e/unlucky")
	says(t, "inspect", shown, "Pod e2e/unlucky could not be created: the step “network” failed", "flaky was told to fail ADD",
		"Still owed: the network is not detached", "flaky was told to fail DEL", "It is tried again")
	t.Logf("stele inspect e2e/unlucky\n%s", shown)
	h.write(failures, "")
	h.Eventually("the network is detached", func() bool {
		return strings.Contains(h.Stele("inspect", "e2e/unlucky"), "network detached, addresses free")
	})
	h.Audit()
}

// TestInspectRefuses: what cannot be answered says why, with the exit codes that are
// documented.
func TestInspectRefuses(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	a, b := h.RunPod(h.PodConfig("a")), h.RunPod(h.PodConfig("b"))
	for _, pod := range []*Pod{a, b} {
		pod.Create(h.ContainerConfig("twin"))
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"inspect", "nobody"}, 1, "nobody"},
		{[]string{"inspect", "e2e/a/nobody"}, 1, "e2e/a/nobody"},
		{[]string{"inspect", "e2e/a@7"}, 1, "e2e/a@7"},
		{[]string{"inspect", "a/b/c/d"}, 2, "is none of POD, NAMESPACE/POD"},
		{[]string{"inspect", "e2e/a@x"}, 2, `the attempt after @ is "x"`},
		{[]string{"inspect", strings.Repeat("x", 600)}, 2, "longer than 512 bytes"},
		{[]string{"inspect", "e2e/a", "-o", "xml"}, 2, `"xml"`},
		{[]string{"inspect"}, 2, "accepts 1 arg"},
		{[]string{"inspect", "e2e/a", "--at-noon"}, 2, "unknown flag"},
		{[]string{"events", "--since", "noon"}, 2, `--since: "noon" is no time`},
		{[]string{"events", "--until", "-3m"}, 2, `--until: "-3m" is no time`},
		{[]string{"events", "--since", "1m", "--until", "2m"}, 2, "is before --since"},
		{[]string{"events", "--until", "1m", "-f"}, 2, "no meaning with --follow"},
		{[]string{"events", "--pod", "a/b/c/d"}, 2, "--pod"},
		{[]string{"events", "-o", "xml"}, 2, `"xml"`},
		{[]string{"events", "--from", "x"}, 2, "--from"},
		{[]string{"events", "--root", filepath.Join(h.Root, "none")}, 1, "none"},
		{[]string{"inspect", "e2e/a", "--root", filepath.Join(h.Root, "none")}, 1, "none"},
	} {
		out, err := h.stele(c.args...)
		code := 0
		if exit, is := err.(*exec.ExitError); is {
			code = exit.ExitCode()
		}
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("stele %s: exit code %d, want %d, with %q: %s", strings.Join(c.args, " "), code, c.code, c.says, out)
		}
	}
	for _, c := range []struct {
		args string
		want int
	}{
		{"--pod e2e/a --type SandboxReady", 1}, {"--type SandboxReady --since 1h", 2}, {"--type SandboxReady --until 1h", 0},
		{"e2e/b/twin --type ContainerCreated", 1}, {"--type SandboxReady --from 1000000", 0},
	} {
		if out := h.Stele(append([]string{"events", "-o", "json"}, strings.Fields(c.args)...)...); strings.Count(out, "\n") != c.want {
			t.Errorf("events %s: want %d lines:\n%s", c.args, c.want, out)
		}
	}
	says(t, "inspect", h.Stele("inspect", "e2e/a/twin"), "Container twin is created, and the kubelet has not asked for its start")
}
