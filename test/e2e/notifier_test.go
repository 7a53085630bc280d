package e2e

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	notifierOld = "io.kubernetes.cri-o.seccompNotifierAction"
	notifierNew = "seccomp-notifier-action.crio.io"
	// tryMount makes a call that the default profile forbids to those without CAP_SYS_ADMIN.
	tryMount = "mount -t tmpfs none /dev/shm"
	// mounting does so until it is told to end.
	mounting = "while [ ! -e /dev/shm/end ]; do " + tryMount + " 2>&1; sleep 0.1; done; exit 3"
)

// notified is a node whose handler allows the seccomp notifier.
type notified struct {
	*Harness
	metrics string
}

func (n notified) in(t *testing.T) notified { return notified{n.In(t), n.metrics} }

// pod runs a pod with the annotation.
func (n notified) pod(name, key, action string, change ...func(*runtimeapi.PodSandboxConfig)) *Pod {
	n.t.Helper()
	config := n.PodConfig(name)
	config.Annotations[key] = action
	for _, f := range change {
		f(config)
	}
	return n.RunPod(config)
}

// confined is a container's configuration with the default profile.
func (n notified) confined(name string, command ...string) *runtimeapi.ContainerConfig {
	config := n.ContainerConfig(name, command...)
	config.Linux.SecurityContext.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	return config
}

// counted is the metric of a container's call.
func (n notified) counted(t *testing.T, pod *Pod, container, call string) int {
	t.Helper()
	m := pod.Config.Metadata
	series := fmt.Sprintf(`container_runtime_crio_containers_seccomp_notifier_count_total{name="k8s_%s_%s_%s_%s_0",syscall="%s"} `,
		container, m.Name, m.Namespace, m.Uid, call)
	for line := range strings.Lines(get(t, "http://"+n.metrics+"/metrics")) {
		if value, is := strings.CutPrefix(line, series); is {
			count, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				t.Fatal(err)
			}
			return count
		}
	}
	return 0
}

// said counts lines of a container's log with a word.
func (n notified) said(pod *Pod, config *runtimeapi.ContainerConfig, word string) (count int) {
	for _, line := range pod.Log(config) {
		if strings.Contains(line.Text, word) {
			count++
		}
	}
	return count
}

const forbidden, unknownCall = "permission denied", "not implemented"

// TestSeccompNotifier runs containers that make forbidden system calls, in pods that want to know of
// them by CRI-O's annotation.
func TestSeccompNotifier(t *testing.T) {
	t.Parallel()
	metrics := freeAddress(t)
	h := New(t, programs, Options{
		Handlers: map[string]string{"plain": programs.Runc},
		Config: fmt.Sprintf("\n[metrics]\nlisten = %q\n[runtime.handlers.runc]\npath = %q\nallowed_annotations = [%q, %q]\n",
			metrics, programs.Runc, notifierOld, notifierNew),
	})
	n := notified{h, metrics}
	t.Run("not allowed", func(t *testing.T) { notifierNotAllowed(t, n.in(t)) })
	t.Run("report", func(t *testing.T) { notifierReport(t, n.in(t)) })
	t.Run("stop", func(t *testing.T) { notifierStop(t, n.in(t)) })
	t.Run("nothing forbidden", func(t *testing.T) { notifierIdle(t, n.in(t)) })
	t.Run("user namespace", func(t *testing.T) { notifierUsers(t, n.in(t)) })
	// What the daemon's killing leaves is the last word.
	if sockets, _ := filepath.Glob(filepath.Join(h.State, "monitor", "s*")); len(sockets) > 0 {
		t.Errorf("sockets are left: %v", sockets)
	}
}

// Without the administrator's word the annotation does nothing, and the profile is as it was.
func notifierNotAllowed(t *testing.T, n notified) {
	config := n.PodConfig("not-allowed")
	config.Annotations[notifierOld], config.Annotations[notifierNew] = "stop", "stop"
	answer, err := n.Runtime.RunPodSandbox(n.Context(), &runtimeapi.RunPodSandboxRequest{Config: config, RuntimeHandler: "plain"})
	if err != nil {
		t.Fatal(err)
	}
	pod := &Pod{ID: answer.PodSandboxId, Config: config, h: n.Harness}
	id := pod.Run(n.confined("c"))
	if n.ExecSync(id, "sh", "-c", tryMount).ExitCode == 0 {
		t.Error("the profile forbids nothing")
	}
	if s := runtimeSpec(n.Harness, id).Linux.Seccomp; s == nil || s.ListenerPath != "" {
		t.Errorf("the profile is %+v", s)
	}
	if got := n.counted(t, pod, "c", "mount"); got != 0 {
		t.Errorf("%d calls were counted", got)
	}
}

// Calls are refused as ever, counted whether or not there is a daemon, and few of them are events.
func notifierReport(t *testing.T, n notified) {
	pod := n.pod("report", notifierOld, "log")
	config := n.confined("c", "sh", "-c", mounting)
	id := pod.Run(config)
	n.Eventually("calls are counted", func() bool { return n.counted(t, pod, "c", "mount") > 2 })
	// Those of commands, too.
	if out := n.ExecSync(id, "unshare", "-U", "true"); out.ExitCode == 0 || !strings.Contains(strings.ToLower(string(out.Stderr)), "not permitted") {
		t.Errorf("unshare: %v", out)
	}
	n.Eventually("a command's call is counted", func() bool { return n.counted(t, pod, "c", "unshare") == 1 })
	before := n.counted(t, pod, "c", "mount")
	n.Daemon.Kill9()
	lines := len(pod.Log(config))
	n.Eventually("calls are answered without a daemon", func() bool { return len(pod.Log(config)) > lines+3 })
	n.Daemon.Start()
	n.Eventually("the next daemon counts on", func() bool { return n.counted(t, pod, "c", "mount") > before+3 })
	if got := n.counted(t, pod, "c", "unshare"); got != 1 {
		t.Errorf("unshare was counted %d times", got)
	}
	if got := n.said(pod, config, unknownCall); got > 0 {
		t.Errorf("the kernel answered %d calls", got)
	}
	if got := n.said(pod, config, forbidden); got == 0 {
		t.Errorf("the container says %v", pod.Log(config))
	}
	n.Exec(id, "touch", "/dev/shm/end")
	if s := n.WaitExit(id); s.ExitCode != 3 || s.Reason != "Error" || s.Message != "" {
		t.Errorf("it ended with %v", s)
	}
	events := n.Stele("events", "-o", "wide", id[:12])
	if got := strings.Count(events, "SyscallsBlocked"); got < 2 || got > 12 {
		t.Errorf("%d events:\n%s", got, events)
	}
	pod.Stop()
	pod.Remove()
	if got := n.counted(t, pod, "c", "mount"); got != 0 {
		t.Errorf("a removed container has %d calls", got)
	}
}

// A container is killed once it makes no more forbidden calls, also if the daemon dies meanwhile,
// and its status says why.
func notifierStop(t *testing.T, n notified) {
	pod := n.pod("stop", notifierNew, "stop")
	id := pod.Run(n.confined("c"))
	other := pod.Run(n.confined("d"))
	for range 3 {
		n.ExecSync(id, "sh", "-c", tryMount)
	}
	n.Eventually("the calls are counted", func() bool { return n.counted(t, pod, "c", "mount") == 3 })
	n.Daemon.Kill9()
	n.Daemon.Start()
	s := n.WaitExit(id)
	if s.Reason != "seccomp killed" || s.Message != "Used forbidden syscalls: mount (3x)" || s.ExitCode != 137 {
		t.Errorf("it ended with %v", s)
	}
	if got := n.counted(t, pod, "c", "mount"); got != 3 {
		t.Errorf("%d calls were counted", got)
	}
	if s := n.ContainerStatus(other); s.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("a container that did nothing forbidden is %v", s)
	}
	if events := n.Stele("events", "-o", "wide", id[:12]); !strings.Contains(events, "SyscallsBlocked") || !strings.Contains(events, "KillRequested") {
		t.Errorf("the events are\n%s", events)
	}
	if words := n.Stele("inspect", pod.ID); !strings.Contains(words, "its pod wants that for system calls that the seccomp profile forbids") {
		t.Errorf("inspect says\n%s", words)
	}
}

// Containers without a profile, and privileged ones, run: nothing is forbidden to them.
func notifierIdle(t *testing.T, n notified) {
	pod := n.pod("idle", notifierOld, "stop", func(config *runtimeapi.PodSandboxConfig) { config.Linux.SecurityContext.Privileged = true })
	free := n.ContainerConfig("unconfined")
	free.Linux.SecurityContext.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
	privileged := n.ContainerConfig("privileged")
	privileged.Linux.SecurityContext.Privileged = true
	for _, config := range []*runtimeapi.ContainerConfig{free, privileged} {
		id := pod.Run(config)
		n.Exec(id, "unshare", "-U", "true")
		if s := runtimeSpec(n.Harness, id).Linux.Seccomp; s != nil {
			t.Errorf("%s has the profile %+v", config.Metadata.Name, s)
		}
	}
}

func notifierUsers(t *testing.T, n notified) {
	pod := n.pod("users", notifierOld, "", func(config *runtimeapi.PodSandboxConfig) {
		config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = usersFrom(700000)
	})
	config := n.confined("c", "sh", "-c", mounting)
	id := pod.Run(config)
	n.Eventually("calls are counted", func() bool { return n.counted(t, pod, "c", "mount") > 2 })
	if n.said(pod, config, forbidden) == 0 || n.said(pod, config, unknownCall) > 0 {
		t.Errorf("the container says %v", pod.Log(config))
	}
	n.Exec(id, "touch", "/dev/shm/end")
	if s := n.WaitExit(id); s.ExitCode != 3 {
		t.Errorf("it ended with %v", s)
	}
}
