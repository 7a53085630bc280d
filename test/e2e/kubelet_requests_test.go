package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
)

// What a kubelet, and the images that users build, ask for.
func TestKubeletRequests(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("requests"))
	t.Run("accounts", func(t *testing.T) { requestedAccounts(t, h.In(t), pod) })
	t.Run("ids above 2^31", func(t *testing.T) { requestedHighIDs(t, h.In(t), pod) })
	t.Run("mounts", func(t *testing.T) { requestedMounts(t, h.In(t), pod) })
	t.Run("memory", func(t *testing.T) { requestedMemory(t, h.In(t), pod) })
	t.Run("host name", func(t *testing.T) { requestedHostname(t, h.In(t)) })
	t.Run("unmasked", func(t *testing.T) { requestedUnmasked(t, h.In(t), pod) })
}

// accountsImage has account files and declares a volume that no layer has.
func accountsImage(t *testing.T, h *Harness) string {
	busybox, _ := h.Programs.images(t)
	layers, err := busybox.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return h.Pull(h.Registry.Push(t, "e2e/accounts:v1", images.Build(t, images.Spec{
		Below:  layers,
		Config: v1.Config{Volumes: map[string]struct{}{"/var/lib/db": {}, "/": {}, "/data": {}, "/data/": {}}},
		Layers: [][]images.File{{
			{Path: "etc/passwd", Mode: 0o644, Content: []byte("root:x:0:0:root:/root:/bin/sh\nmember:x:1003:1003::/:")},
			{Path: "etc/group", Mode: 0o644, Content: []byte("root:x:0:\ndirectory:x:3000000000:member\n")},
		}},
	})))
}

func requestedAccounts(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("accounts")
	config.Image.Image = accountsImage(t, h)
	config.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: 4242}
	config.Linux.SecurityContext.RunAsGroup = &runtimeapi.Int64Value{Value: 77}
	config.Linux.SecurityContext.ReadonlyRootfs = true
	id := pod.Run(config)
	if got, want := h.Exec(id, "cat", "/etc/passwd"), "member:x:1003:1003::/:\n4242:x:4242:77:4242 user:/:/sbin/nologin"; !strings.HasSuffix(got, want) {
		t.Errorf("/etc/passwd is %q, want it to end in %q", got, want)
	}
	if got := h.Exec(id, "cat", "/etc/group"); !strings.HasSuffix(got, "member\n77:x:77:") {
		t.Errorf("/etc/group is %q", got)
	}
	if got := strings.TrimSpace(h.Exec(id, "whoami")); got != "4242" {
		t.Errorf("whoami says %q", got)
	}
	h.Exec(id, "touch", "/var/lib/db/new", "/data/new")
}

func requestedHighIDs(t *testing.T, h *Harness, pod *Pod) {
	config := h.TesterConfig("high", "report")
	config.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: 1<<31 + 5}
	config.Linux.SecurityContext.SupplementalGroups = []int64{1<<32 - 2}
	if r := pod.report(h, config); r.UID != 1<<31+5 || !slices.Contains(r.Groups, 1<<32-2) {
		t.Errorf("the process is %d, in %v", r.UID, r.Groups)
	}
	member := h.ContainerConfig("member")
	member.Image.Image = accountsImage(t, h)
	member.Linux.SecurityContext.RunAsUsername = "member"
	if got := h.Exec(pod.Run(member), "id", "-G"); !slices.Contains(strings.Fields(got), "3000000000") {
		t.Errorf("the member's groups are %s", got)
	}
}

func requestedMounts(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("mounts")
	for _, dir := range []string{"first", "second"} {
		path := filepath.Join(h.Share, dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		h.write(filepath.Join(path, "name"), dir)
	}
	config.Mounts = []*runtimeapi.Mount{
		{HostPath: filepath.Join(h.Share, "first"), ContainerPath: "/data"},
		{HostPath: filepath.Join(h.Share, "second"), ContainerPath: "/data/"},
	}
	if got := h.Exec(pod.Run(config), "cat", "/data/name"); got != "second" {
		t.Errorf("mounted is %q", got)
	}
}

func requestedMemory(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("memory", "true")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 1 << 20}
	_, err := pod.TryCreate(config)
	h.Refused(err, codes.InvalidArgument, "4194304 bytes")
	config.Linux.Resources.MemoryLimitInBytes = 6 << 20
	if code := h.WaitExit(pod.Run(config)).ExitCode; code != 0 {
		t.Errorf("with 6 MiB it ended with %d", code)
	}
}

func requestedHostname(t *testing.T, h *Harness) {
	config := h.PodConfig("hostnet")
	config.Hostname = ""
	config.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
	node, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	r := h.RunPod(config).report(h, h.TesterConfig("c", "report"))
	if name, times := r.env("HOSTNAME"); name != node || times != 1 {
		t.Errorf("HOSTNAME is %q, %d times; want %q", name, times, node)
	}
}

func requestedUnmasked(t *testing.T, h *Harness, pod *Pod) {
	for name, kubelet := range map[string]bool{"masked": false, "unmasked": true} {
		config := h.ContainerConfig(name)
		if kubelet {
			config.Labels["io.kubernetes.container.name"] = name
		}
		mounts := h.Exec(pod.Run(config), "cat", "/proc/mounts")
		if masked := strings.Contains(mounts, " /proc/sys "); masked == kubelet {
			t.Errorf("%s: masked is %v", name, masked)
		}
	}
}
