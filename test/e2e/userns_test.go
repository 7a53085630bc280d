package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// usersFrom maps 65536 ids of a pod to those of the node from the given one on.
func usersFrom(host uint32) *runtimeapi.UserNamespace {
	ranges := []*runtimeapi.IDMapping{{HostId: host, Length: 65536}}
	return &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: ranges, Gids: ranges}
}

// usersPod is the configuration of a pod whose ids begin at the node's host.
func usersPod(h *Harness, name string, host uint32) *runtimeapi.PodSandboxConfig {
	config := h.PodConfig(name)
	config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = usersFrom(host)
	return config
}

// TestUserNamespaces runs pods whose root is nobody on the node.
func TestUserNamespaces(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(usersPod(h, "users", 200000))
	t.Run("ids", func(t *testing.T) { usersIDs(t, h.In(t), pod) })
	t.Run("files", func(t *testing.T) { usersFiles(t, h.In(t), pod) })
	t.Run("image volumes", func(t *testing.T) { usersImageVolumes(t, h.In(t), pod) })
	t.Run("another user", func(t *testing.T) { usersOther(t, h.In(t), pod) })
	t.Run("other ids from the same image", func(t *testing.T) { usersSecondPod(t, h.In(t)) })
	t.Run("shared PID namespace", func(t *testing.T) { usersSharedPID(t, h.In(t)) })
	t.Run("network", func(t *testing.T) { usersNetwork(t, h.In(t)) })
	t.Run("streams", func(t *testing.T) { usersStreams(t, h.In(t), pod) })
	t.Run("kills", func(t *testing.T) { usersKills(t, h) })
}

// usersImageVolumes: a VOLUME of the image, and an image and an artifact that are mounted.
func usersImageVolumes(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("images")
	config.Mounts = []*runtimeapi.Mount{{ContainerPath: "/image", Readonly: true, Image: &runtimeapi.ImageSpec{Image: h.Tester}}}
	id := pod.Run(config)
	if got := h.Exec(id, "stat", "-c", "%u:%g", "/image/tester"); got != "0:0" {
		t.Errorf("a file of a mounted image belongs to %q", got)
	}
}

// usersOther runs as a user, in a directory that the image lacks.
func usersOther(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("other")
	config.WorkingDir = "/made/for/it"
	config.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: 1000}
	config.Linux.SecurityContext.RunAsGroup = &runtimeapi.Int64Value{Value: 2000}
	id := pod.Run(config)
	if got := h.Exec(id, "sh", "-c", "echo out > /dev/stdout; id -u; id -g; stat -c %u:%g /made /made/for/it"); got != "out\n1000\n2000\n0:0\n0:0" {
		t.Errorf("got %q", got)
	}
	config = h.ContainerConfig("unmapped")
	config.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: 70000}
	_, err := pod.TryCreate(config)
	h.Refused(err, codes.InvalidArgument, "run_as_user", "70000", "not mapped")
}

func usersSecondPod(t *testing.T, h *Harness) {
	pod := h.RunPod(usersPod(h, "second", 900000))
	id := pod.Run(h.ContainerConfig("c"))
	if got := h.Exec(id, "stat", "-c", "%u", "/bin/sh"); got != "0" {
		t.Errorf("a file of the image belongs to %q", got)
	}
	if got := h.Exec(id, "cat", "/proc/self/uid_map"); !strings.Contains(got, "900000") {
		t.Errorf("mapping %q", got)
	}
}

func usersSharedPID(t *testing.T, h *Harness) {
	config := usersPod(h, "pids", 300000)
	config.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
	pod := h.RunPod(config)
	first := pod.Run(h.ContainerConfig("first"))
	second := pod.Run(h.ContainerConfig("second"))
	for _, id := range []string{first, second} {
		if got := h.Exec(id, "ps"); strings.Count(got, "sleep 3600") != 2 || !strings.Contains(got, "pause") {
			t.Errorf("processes: %s", got)
		}
	}
	target := h.ContainerConfig("debug")
	target.Linux.SecurityContext.NamespaceOptions = proto.CloneOf(config.Linux.SecurityContext.NamespaceOptions)
	target.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_TARGET
	target.Linux.SecurityContext.NamespaceOptions.TargetId = first
	h.Exec(pod.Run(target), "true")
}

// usersNetwork: sysctls of the pod's own namespaces, a low port, a host port and its own name.
func usersNetwork(t *testing.T, h *Harness) {
	config := usersPod(h, "network", 400000)
	config.Linux.Sysctls = map[string]string{"net.ipv4.ip_local_port_range": "20000 20100", "kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "11"}
	pod := h.RunPod(config)
	id := pod.Run(h.TesterConfig("web", "serve", ":80"))
	h.Reachable(pod.IP() + ":80").Close()
	shell := pod.Run(h.ContainerConfig("shell"))
	want := "20000\t20100\n1\n11\nnetwork"
	if got := h.Exec(shell, "sh", "-c", "cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max; hostname"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	h.StopContainer(id, 0)
}

func usersStreams(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("streams", "sh", "-c", "echo to the log > /dev/stdout; exec sleep 3600")
	id := pod.Run(config)
	h.Eventually("what was written to /dev/stdout is in the log", func() bool {
		lines := pod.Log(config)
		return len(lines) == 1 && lines[0].Text == "to the log"
	})
	if got := h.ExecSync(id, "sh", "-c", "echo one > /dev/stdout; echo two > /dev/stderr; exit 3"); string(got.Stdout) != "one\n" || string(got.Stderr) != "two\n" || got.ExitCode != 3 {
		t.Errorf("got %v", got)
	}
}

// usersKills: the next daemon finds such a pod as it finds others, and ends it whole.
func usersKills(t *testing.T, h *Harness) {
	pod := h.RunPod(usersPod(h, "killed", 500000))
	id := pod.Run(h.ContainerConfig("c"))
	h.Daemon.Kill9()
	h.Daemon.Start()
	if got := h.Exec(id, "id", "-u"); got != "0" {
		t.Errorf("after the kill the user is %q", got)
	}
	again := pod.Run(h.ContainerConfig("again"))
	h.Exec(again, "true")
	pod.Stop()
	pod.Remove()
}

// TestBadUserNamespaces asks for user namespaces that cannot be.
func TestBadUserNamespaces(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	type users = runtimeapi.UserNamespace
	type ranges = []*runtimeapi.IDMapping
	const field = "linux.security_context.namespace_options.userns_options"
	for name, c := range map[string]struct {
		change func(o *runtimeapi.NamespaceOption, u *users)
		code   codes.Code
		words  []string
	}{
		"no mapping":             {func(_ *runtimeapi.NamespaceOption, u *users) { u.Uids = nil }, codes.InvalidArgument, []string{field + ".uids"}},
		"no mapping of groups":   {func(_ *runtimeapi.NamespaceOption, u *users) { u.Gids = nil }, codes.InvalidArgument, []string{field + ".gids"}},
		"mapping of the node's":  {func(_ *runtimeapi.NamespaceOption, u *users) { u.Mode = runtimeapi.NamespaceMode_NODE }, codes.InvalidArgument, []string{field + ".mode", "NODE"}},
		"mode that there is not": {func(_ *runtimeapi.NamespaceOption, u *users) { u.Mode = runtimeapi.NamespaceMode_CONTAINER }, codes.InvalidArgument, []string{field + ".mode", "CONTAINER"}},
		"the node's root":        {func(_ *runtimeapi.NamespaceOption, u *users) { u.Uids = ranges{{Length: 65536}} }, codes.InvalidArgument, []string{field + ".uids[0].host_id"}},
		"empty":                  {func(_ *runtimeapi.NamespaceOption, u *users) { u.Uids = ranges{{HostId: 1}} }, codes.InvalidArgument, []string{field + ".uids[0].length"}},
		"beyond the last id":     {func(_ *runtimeapi.NamespaceOption, u *users) { u.Gids = ranges{{HostId: 1<<32 - 10, Length: 11}} }, codes.InvalidArgument, []string{field + ".gids[0].host_id", "4294967286"}},
		"beyond the last id inside": {func(_ *runtimeapi.NamespaceOption, u *users) {
			u.Uids = ranges{{ContainerId: 1<<32 - 1, HostId: 10, Length: 1}}
		}, codes.InvalidArgument, []string{field + ".uids[0].container_id"}},
		"without root": {func(_ *runtimeapi.NamespaceOption, u *users) {
			u.Uids = ranges{{ContainerId: 1, HostId: 1000, Length: 10}}
		}, codes.InvalidArgument, []string{field + ".uids", "0"}},
		"overlap on the node": {func(_ *runtimeapi.NamespaceOption, u *users) {
			u.Uids = ranges{{HostId: 1000, Length: 10}, {ContainerId: 10, HostId: 1009, Length: 10}}
		}, codes.InvalidArgument, []string{field + ".uids.host_id", "1009"}},
		"overlap in the container": {func(_ *runtimeapi.NamespaceOption, u *users) {
			u.Uids = ranges{{HostId: 1000, Length: 10}, {ContainerId: 9, HostId: 2000, Length: 10}}
		}, codes.InvalidArgument, []string{field + ".uids.container_id", "9"}},
		"too many": {func(_ *runtimeapi.NamespaceOption, u *users) {
			u.Uids = nil
			for i := range uint32(341) {
				u.Uids = append(u.Uids, &runtimeapi.IDMapping{ContainerId: 2 * i, HostId: 1000 + 2*i, Length: 1})
			}
		}, codes.InvalidArgument, []string{field + ".uids", "341"}},
		"the node's network": {func(o *runtimeapi.NamespaceOption, _ *users) { o.Network = runtimeapi.NamespaceMode_NODE }, codes.Unimplemented, []string{field, "network"}},
		"the node's IPC":     {func(o *runtimeapi.NamespaceOption, _ *users) { o.Ipc = runtimeapi.NamespaceMode_NODE }, codes.Unimplemented, []string{field, "ipc"}},
		"the node's PIDs":    {func(o *runtimeapi.NamespaceOption, _ *users) { o.Pid = runtimeapi.NamespaceMode_NODE }, codes.Unimplemented, []string{field, "pid"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.In(t)
			config := usersPod(h, "bad", 200000)
			options := config.Linux.SecurityContext.NamespaceOptions
			c.change(options, options.UsernsOptions)
			id, err := h.TryRunPod(config)
			if err == nil {
				h.removePod(id)
			}
			h.Refused(err, c.code, c.words...)
		})
	}
	pod := h.RunPod(usersPod(h, "good", 200000))
	for name, users := range map[string]*users{"of its own": usersFrom(300000), "the node's": {Mode: runtimeapi.NamespaceMode_NODE}} {
		config := h.ContainerConfig("bad")
		config.Linux.SecurityContext.NamespaceOptions = &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER, UsernsOptions: users}
		_, err := pod.TryCreate(config)
		h.Refused(err, codes.InvalidArgument, field)
		if err == nil {
			t.Errorf("a container with users %s was created", name)
		}
	}
}

func usersIDs(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("ids")
	id := pod.Run(config)
	if got := strings.Fields(h.Exec(id, "cat", "/proc/self/uid_map", "/proc/self/gid_map")); strings.Join(got, " ") != "0 200000 65536 0 200000 65536" {
		t.Errorf("mappings %q", got)
	}
	if got := h.Exec(id, "id", "-u"); got != "0" {
		t.Errorf("inside, the user is %q", got)
	}
	info, err := os.Stat(filepath.Join("/proc", strconv.Itoa(h.ContainerPID(id))))
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 200000 {
		t.Errorf("on the node, the user is %d", uid)
	}
}

// Everything that a container finds belongs to somebody of its own.
func usersFiles(t *testing.T, h *Harness, pod *Pod) {
	volume := filepath.Join(h.Share, "volume")
	if err := os.Mkdir(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	config := h.ContainerConfig("files")
	users := pod.Config.Linux.SecurityContext.NamespaceOptions.UsernsOptions
	config.Mounts = []*runtimeapi.Mount{{HostPath: volume, ContainerPath: "/volume", UidMappings: users.Uids, GidMappings: users.Gids}}
	id := pod.Run(config)
	for _, path := range []string{"/", "/bin/sh", "/etc", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/dev/shm", "/volume", "/proc/self", "/dev/pts"} {
		if got := h.Exec(id, "stat", "-L", "-c", "%u:%g", path); got != "0:0" {
			t.Errorf("%s belongs to %q", path, got)
		}
	}
	h.Exec(id, "sh", "-c", "echo of the pod > /volume/file && echo 127.0.0.1 me >> /etc/hosts && echo x > /dev/shm/x && echo out > /dev/stdout && echo err > /dev/stderr && touch /made")
	info, err := os.Stat(filepath.Join(volume, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 0 {
		t.Errorf("on the node, the file in the volume belongs to %d", uid)
	}
}
