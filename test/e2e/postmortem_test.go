package e2e

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
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
	want := []string{"Pod e2e/hungry is ready", "Container app (attempt 2)", "out of memory", "Its memory: limit 32 MiB, used 32 MiB at its highest.", "Before that, container app was out of memory twice.", "runtime create"}
	live := h.Stele("inspect", "e2e/hungry")
	says(t, "inspect", live, want...)
	t.Logf("stele inspect e2e/hungry\n%s", live)
	says(t, "inspect of the container", h.Stele("inspect", "e2e/hungry/app@0"), "Container app was", "out of memory", "The kubelet removed it.")
	h.Daemon.Stop()
	says(t, "inspect --root", h.Stele("inspect", "e2e/hungry", "--root", h.Root), want...)
	h.Daemon.Start()
	pod.Remove()
	says(t, "inspect of the removed pod", h.Stele("inspect", "hungry"), "Pod e2e/hungry is gone", "out of memory")
	// On another machine there is only the file.
	file := filepath.Join(h.Share, "hungry.stele")
	h.Stele("log", "export", file, "--pod", "e2e/hungry", "--logs")
	says(t, "inspect --bundle", h.Stele("inspect", "hungry", "--bundle", file), "Pod e2e/hungry is gone", "out of memory")
	if out, err := h.stele("log", "export", file); err == nil || !strings.Contains(out, "exists already") {
		t.Errorf("a second export replaces the first: %v, %s", err, out)
	}
	h.Audit()
}

// TestPostmortemReboot: after a reboot the pods say that they were lost by it, and what ran
// has no exit code that nobody saw.
func TestPostmortemReboot(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{OwnBoot: true})
	pod := h.RunPod(h.PodConfig("web"))
	ended := pod.Run(h.ContainerConfig("done", "sh", "-c", "exit 7"))
	h.WaitExit(ended)
	pod.Run(h.ContainerConfig("app", "sleep", "1000"))
	before := lastSequence(t, h)
	h.PowerFailure(h.KeepLog())
	h.Eventually("the pod is stopped", func() bool {
		return strings.Contains(h.Stele("pods", "e2e/web"), "lost")
	})
	h.Eventually("the address is free", func() bool {
		return strings.Contains(h.Stele("inspect", "e2e/web"), "network detached")
	})
	shown := h.Stele("inspect", "e2e/web")
	says(t, "inspect", shown, "Pod e2e/web is stopped, because it was lost: the node was rebooted.",
		"Container app ended, and its exit code is unknown: the node was rebooted.", "Container done exited by itself with code 7", "Meanwhile on the node", "rebooted")
	t.Logf("stele inspect e2e/web\n%s", shown)
	says(t, "ps before the reboot", h.Stele("ps", "--at", before), "e2e/web/app 0 running", "e2e/web/done 0 exited (7)")
	says(t, "what the reboot changed", h.Stele("replay", "--diff", before, "0s"), "pod e2e/web: ready → lost", "container e2e/web/app: running → exited (code unknown)")
	pod.Remove()
	h.Audit()
}

// TestPostmortemSlowPull: a start that waited for its image says so, with how long and how
// much.
func TestPostmortemSlowPull(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	f := newFaults(t, h)
	image := images.Build(t, images.Spec{Layers: [][]images.File{images.BusyboxFiles(t), {{Path: "content", Mode: 0o644, Content: noise(1 << 20)}}}})
	_, tag, _ := strings.Cut(h.Registry.Push(t, "slow/app:v1", image), "/")
	ref := f.proxy.Host + "/" + tag
	pod := h.RunPod(h.PodConfig("late"))
	f.proxy.Spoil(at("/blobs/"+layerDigest(t, image), images.Fault{Drip: 2 * time.Millisecond}))
	if _, err := h.Images.PullImage(h.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}}); err != nil {
		t.Fatal(err)
	}
	f.proxy.Spoil(nil)
	config := h.ContainerConfig("app")
	config.Image = &runtimeapi.ImageSpec{Image: ref, UserSpecifiedImage: ref}
	pod.Run(config)
	shown := h.Stele("inspect", "e2e/late")
	says(t, "inspect", shown, "Pod e2e/late is ready", "Container app runs", "Before its creation its image was pulled for", "MiB).", "image pull")
	t.Logf("stele inspect e2e/late\n%s", shown)
	pod.Remove()
	h.Audit()
}

// TestReplay: what a daemon has in memory is what its events say, also after a start from a
// snapshot, and any moment can be had again.
func TestReplay(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("web"))
	id := pod.Run(h.ContainerConfig("app", "sleep", "1000"))
	h.Exec(id, "true")
	h.WaitExit(pod.Run(h.ContainerConfig("done", "true")))
	for _, again := range []bool{false, true} {
		if again {
			h.Daemon.Kill9()
			h.Daemon.Start()
		}
		says(t, "replay --verify", h.Stele("replay", "--verify"), "Equal after sequence", "1 pod and 2 containers")
	}
	says(t, "replay", h.Stele("replay"), "e2e/web 0 ready", "e2e/web/app 0 running", "e2e/web/done 0 exited (0)")
	says(t, "replay --until 1", h.Stele("replay", "--until", "1"), "After sequence 1,", "There was no pod.")
	if got := h.Stele("ps", "-o", "json", "e2e/web/app"); !strings.Contains(got, id) || !strings.Contains(got, `"pod": "web"`) || strings.Contains(got, `"name": "done"`) {
		t.Errorf("ps of a container: %s", got)
	}
	says(t, "events", h.Stele("events", "e2e/web"), "e2e/web: pod requested by the kubelet", "(RunPodSandbox)", "e2e/web/app: started")
	// Names of what began earlier are known all the same.
	says(t, "the last event", h.Stele("events", "--from", lastSequence(t, h, "e2e/web/done")), "e2e/web/done:")
	h.Daemon.Stop()
	says(t, "pods --root", h.Stele("pods", "--root", h.Root), "e2e/web 0 ready")
	h.Daemon.Start()
	pod.Remove()
	if got := h.Stele("ps"); strings.Count(got, "\n") != 1 {
		t.Errorf("ps lists what is gone: %s", got)
	}
	says(t, "ps -a", h.Stele("ps", "-a"), "e2e/web/app 0 gone (137)")
	h.Audit()
}

// TestTrace: the trace that a call belongs to is on record with what it led to; what is no
// trace does not matter.
func TestTrace(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	for name, parent := range map[string]string{"traced": "00-" + id + "-00f067aa0ba902b7-01", "odd": "00-" + id + "\x1b-x", "long": strings.Repeat("0", 4096), "plain": ""} {
		ctx := h.Context()
		if parent != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", parent)
		}
		pod, err := h.Runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: h.PodConfig(name)})
		if name == "odd" && status.Code(err) == codes.Internal {
			continue // the client's library does not send it
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		events := h.Stele("events", "-o", "json", "e2e/"+name)
		if got := strings.Contains(events, `"trace":"`+id+`"`); got != (name == "traced") || strings.Contains(events, `"trace":""`) {
			t.Errorf("%s: %s", name, events)
		}
		if name == "traced" {
			says(t, "inspect", h.Stele("inspect", "e2e/traced"), "(RunPodSandbox, trace "+id+")")
		}
		h.removePod(pod.PodSandboxId)
	}
}

// lastSequence is the sequence of the last record, of all or of what has a name.
func lastSequence(t *testing.T, h *Harness, names ...string) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(h.Stele(append([]string{"events", "-o", "json"}, names...)...)), "\n")
	_, rest, _ := strings.Cut(lines[len(lines)-1], `"sequence":`)
	sequence, _, _ := strings.Cut(rest, ",")
	return sequence
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

// selectsEvents: of two pods with a container each, as many events are printed as were asked for.
func selectsEvents(t *testing.T, h *Harness) {
	t.Helper()
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
		{[]string{"inspect", "e2e/a", "--at", "noon"}, 2, `--at: "noon" is neither a sequence`},
		{[]string{"inspect", "e2e/a", "--at", "1000000"}, 2, "--at: there is no sequence 1000000: the log ends with"},
		{[]string{"ps", "--at", "24h"}, 2, "is before the log's first record"},
		{[]string{"pods", "a/b/c/d"}, 2, "is none of POD, NAMESPACE/POD"},
		{[]string{"pods", "-o", "xml"}, 2, `"xml"`},
		{[]string{"ps", "--root", h.Root, "--bundle", "x"}, 2, "--bundle: x is given, and --root, too"},
		{[]string{"ps", "--bundle", programs.Stele}, 1, "is no bundle of stele log export"},
		{[]string{"replay", "--diff", "1"}, 2, "accepts 2 arg"},
		{[]string{"replay", "--diff", "3", "1"}, 2, "--diff: 1 is before 3"},
		{[]string{"replay", "--until", "0"}, 2, `--until: "0" is neither a sequence`},
		{[]string{"replay", "--verify", "--until", "3"}, 2, "--verify: has no meaning with --until"},
		{[]string{"replay", "--verify", "--bundle", "x"}, 2, "--verify: needs a running daemon, or --root"},
		{[]string{"replay", "--verify", "-o", "json"}, 2, `--output: "json" has no meaning with --verify`},
		{[]string{"replay", "--diff", "1", "2", "-a"}, 2, "--all: has no meaning with --diff"},
		{[]string{"log", "export"}, 2, "accepts 1 arg"},
		{[]string{"log", "export", filepath.Join(h.Share, "x"), "--pod", "nobody"}, 1, "nobody"},
		{[]string{"log", "export", filepath.Join(h.Share, "x"), "--since", "noon"}, 2, `--since: "noon" is no time`},
		{[]string{"log", "export", filepath.Join(h.Share, "none", "x")}, 1, "no such file or directory"},
		{[]string{"events", "-f", "--root", h.Root}, 2, "--follow: needs a running daemon"},
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
		if exit, is := errors.AsType[*exec.ExitError](err); is {
			code = exit.ExitCode()
		}
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("stele %s: exit code %d, want %d, with %q: %s", strings.Join(c.args, " "), code, c.code, c.says, out)
		}
	}
	selectsEvents(t, h)
	says(t, "inspect", h.Stele("inspect", "e2e/a/twin"), "Container twin is created, and the kubelet has not asked for its start")
}
