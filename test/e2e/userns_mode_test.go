package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const usersAnnotation = "io.kubernetes.cri-o.userns-mode"

// usersByAnnotation is the configuration of a pod that asks by annotation, as the kubelet sends
// it for a pod that runs as that user: it says that the pod has the node's users.
func usersByAnnotation(h *Harness, value string, user int64) *runtimeapi.PodSandboxConfig {
	config := h.PodConfig("mode")
	config.Annotations[usersAnnotation] = value
	config.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: user}
	config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_NODE}
	return config
}

// nodesUser is the configuration of a container, as the kubelet sends it with such a pod's.
func nodesUser(h *Harness, name string, user int64, groups ...int64) *runtimeapi.ContainerConfig {
	config := h.ContainerConfig(name)
	config.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: user}
	config.Linux.SecurityContext.SupplementalGroups = groups
	config.Linux.SecurityContext.NamespaceOptions = &runtimeapi.NamespaceOption{
		Pid: runtimeapi.NamespaceMode_CONTAINER, UsernsOptions: &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_NODE},
	}
	return config
}

func mapped(h *Harness, id string) string {
	return strings.Join(strings.Fields(h.Exec(id, "cat", "/proc/self/uid_map", "/proc/self/gid_map")), " ")
}

// TestUserNamespacesByAnnotation runs pods that ask by CRI-O's annotation.
func TestUserNamespacesByAnnotation(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{
		Handlers: map[string]string{"plain": programs.Runc},
		Config: fmt.Sprintf("\n[runtime]\nminimum_mappable_uid = 7000\nminimum_mappable_gid = 7000\n[runtime.handlers.runc]\npath = %q\nallowed_annotations = [%q]\n",
			programs.Runc, usersAnnotation),
	})
	t.Run("private", func(t *testing.T) { modePrivate(t, h.In(t)) })
	t.Run("user of the node", func(t *testing.T) { modeUser(t, h.In(t)) })
	t.Run("not allowed", func(t *testing.T) { modeNotAllowed(t, h.In(t)) })
	t.Run("refused", func(t *testing.T) { modeRefused(t, h.In(t)) })
	t.Run("kills", func(t *testing.T) { modeKills(t, h) })
}

func modePrivate(t *testing.T, h *Harness) {
	pod := h.RunPod(usersByAnnotation(h, "private:uidmapping=0:600000:65536", 0))
	id := pod.Run(nodesUser(h, "c", 0))
	if got := mapped(h, id); got != "0 600000 65536 0 600000 65536" {
		t.Errorf("mappings %q", got)
	}
	if got := h.Exec(id, "stat", "-c", "%u:%g", "/bin/sh"); got != "0:0" {
		t.Errorf("a file of the image belongs to %q", got)
	}
	if got := pod.Status().GetStatus().GetLinux().GetNamespaces().GetOptions().GetUsernsOptions().GetUids()[0].GetHostId(); got != 600000 {
		t.Errorf("the pod's status has users from %d on", got)
	}
	// A repeated request joins the pod.
	again, err := h.TryRunPod(pod.Config)
	if err != nil || again != pod.ID {
		t.Errorf("repeated: %s, %v; want %s", again, err, pod.ID)
	}
}

// modeUser: the pod's user and groups are the node's. What belongs to them is the pod's, though
// the kubelet has its volumes not mapped.
func modeUser(t *testing.T, h *Harness) {
	volume := filepath.Join(h.Share, "of-7005")
	for _, err := range []error{
		os.Mkdir(volume, 0o700), os.WriteFile(filepath.Join(volume, "secret"), []byte("mine"), 0o600),
		os.Chown(filepath.Join(volume, "secret"), 7005, 7005), os.Chown(volume, 7005, 7005),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	config := usersByAnnotation(h, "private:uidmapping=0:600000:100", 7005)
	config.Linux.SecurityContext.SupplementalGroups = []int64{7006}
	pod := h.RunPod(config)
	asked := nodesUser(h, "c", 7005, 7006)
	asked.Mounts = []*runtimeapi.Mount{{HostPath: volume, ContainerPath: "/volume"}}
	id := pod.Run(asked)
	if got := mapped(h, id); got != "0 600000 100 100 7005 1 0 600000 100 100 7006 1" {
		t.Errorf("mappings %q", got)
	}
	if got := h.Exec(id, "sh", "-c", "id -u; id -G; cat /volume/secret; touch /volume/new; stat -c %u /volume/new"); got != "100\n0 100\nmine100" {
		t.Errorf("inside: %q", got)
	}
}

// modeNotAllowed: where the handler does not allow it, the annotation is one like any other.
func modeNotAllowed(t *testing.T, h *Harness) {
	for key, handler := range map[string]string{usersAnnotation: "plain", usersAnnotation + ".x": "", "userns-mode.crio.io": ""} {
		config := usersByAnnotation(h, "private:uidmapping=0:600000:65536", 0)
		delete(config.Annotations, usersAnnotation)
		config.Annotations[key] = "private:uidmapping=0:600000:65536"
		answer, err := h.Runtime.RunPodSandbox(h.Context(), &runtimeapi.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
		if err != nil {
			t.Fatal(err)
		}
		h.t.Cleanup(func() { h.removePod(answer.PodSandboxId) })
		pod := &Pod{ID: answer.PodSandboxId, Config: config, h: h}
		if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
			t.Fatal(err)
		}
		if got := mapped(h, pod.Run(nodesUser(h, "c", 0))); got != "0 0 4294967295 0 0 4294967295" {
			t.Errorf("%s: mappings %q", key, got)
		}
	}
}

func modeRefused(t *testing.T, h *Harness) {
	for _, c := range []struct {
		value string
		user  int64
		words []string
	}{
		{"", 0, []string{"neither auto nor private"}},
		{"host", 0, []string{"host", "neither auto nor private"}},
		{"auto:size=none", 0, []string{"none", "size"}},
		{"private", 0, []string{"no mapping"}},
		{"private:uidmapping=0:0:65536", 0, []string{"0:0:65536", "maps the node's root"}},
		{"private:uidmapping=0:6999:100", 0, []string{"0:6999:100", "begins below minimum_mappable_uid 7000"}},
		{"private:uidmapping=0:600000:100", 6999, []string{"6999", "minimum_mappable_uid"}},
		{"private:uidmapping=1:600000:100", 0, []string{"uids", "does not map"}},
		{"private:uidmapping=0:600000:100,50:700000:100", 0, []string{"uids.container_id", "two mappings"}},
		{"private:uidmapping=0:600000:100,100:600050:100", 0, []string{"uids.host_id", "two mappings"}},
		{"private:uidmapping=0:4294967290:100", 0, []string{"0:4294967290:100"}},
	} {
		id, err := h.TryRunPod(usersByAnnotation(h, c.value, c.user))
		if err == nil {
			h.removePod(id)
		}
		h.Refused(err, codes.InvalidArgument, c.words...)
	}
	config := usersByAnnotation(h, "private:uidmapping=0:600000:100", 0)
	config.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
	_, err := h.TryRunPod(config)
	h.Refused(err, codes.Unimplemented, "userns_options", "network")
}

// modeKills: the next daemon knows the mappings from the log.
func modeKills(t *testing.T, h *Harness) {
	pod := h.RunPod(usersByAnnotation(h, "private:uidmapping=0:610000:65536", 0))
	pod.Run(nodesUser(h, "before", 0))
	h.Daemon.Kill9()
	h.Daemon.Start()
	again, err := h.TryRunPod(proto.CloneOf(pod.Config))
	if err != nil || again != pod.ID {
		t.Errorf("repeated: %s, %v; want %s", again, err, pod.ID)
	}
	if got := mapped(h, pod.Run(nodesUser(h, "after", 0))); got != "0 610000 65536 0 610000 65536" {
		t.Errorf("mappings %q", got)
	}
	pod.Stop()
	pod.Remove()
}

// TestUserNamespacesAuto: each pod gets ids that no other has, as long as there are any; a killed
// daemon's pods keep theirs, and those of removed pods are given again.
func TestUserNamespacesAuto(t *testing.T) {
	t.Parallel()
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("containers:650000:8000\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	own := &Programs{
		Stele: servedWith(t, list), Monitor: programs.Monitor, Tester: programs.Tester, PluginDir: programs.PluginDir,
		NRIPlugin: programs.NRIPlugin, Runc: programs.Runc, PluginDirs: programs.PluginDirs,
	}
	h := New(t, own, Options{Config: fmt.Sprintf("\n[runtime.handlers.runc]\npath = %q\nallowed_annotations = [%q]\n", programs.Runc, usersAnnotation)})
	want := func(pod *Pod, first int) {
		t.Helper()
		if got, want := mapped(h, pod.Run(nodesUser(h, fmt.Sprint("from", first), 0))), fmt.Sprintf("0 %[1]d 4000 0 %[1]d 4000", first); got != want {
			t.Errorf("mappings %q, want %q", got, want)
		}
	}
	one := h.RunPod(usersByAnnotation(h, "auto:size=4000", 0))
	two := h.RunPod(usersByAnnotation(h, "auto:size=4000", 0))
	want(one, 650000)
	want(two, 654000)
	h.Daemon.Kill9()
	h.Daemon.Start()
	third := usersByAnnotation(h, "auto:size=4000", 0)
	_, err := h.TryRunPod(third)
	h.Refused(err, codes.InvalidArgument, usersAnnotation, "4000", "more uids than the node has left")
	// A repeated request joins its pod, though there is nothing left.
	if again, err := h.TryRunPod(two.Config); err != nil || again != two.ID {
		t.Errorf("repeated: %s, %v; want %s", again, err, two.ID)
	}
	one.Remove()
	want(h.RunPod(third), 650000)
	// No ids are set aside at all.
	if err := os.WriteFile(list, []byte("others:650000:2000\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = h.TryRunPod(usersByAnnotation(h, "auto", 0))
	h.Refused(err, codes.FailedPrecondition, usersAnnotation, "containers", "/etc/subuid")
}

// servedWith returns a program that is stele, whose daemon sees a list of the test's in place of
// the node's: in mounts that outlive it, and end with the test.
func servedWith(t *testing.T, list string) string {
	t.Helper()
	holder := exec.Command("sh", "-c", `mount --bind "$0" /etc/subuid && mount --bind "$0" /etc/subgid && echo mounted && exec sleep 600`, list)
	holder.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	said, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	})
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil {
		t.Fatalf("the lists of ids are not mounted: %q, %v", line, err)
	}
	program := filepath.Join(t.TempDir(), "stele")
	script := fmt.Sprintf("#!/bin/sh\nif [ $1 = serve ]; then exec nsenter --target %d --mount -- %s \"$@\"; fi\nexec %[2]s \"$@\"\n", holder.Process.Pid, programs.Stele)
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return program
}
