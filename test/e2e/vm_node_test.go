package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stele-runtime/stele/executors/cgroups"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// nodeIO: limits of what a container does to a disk, which only cgroup v2 has files for.
func nodeIO(t *testing.T, h *Harness) {
	if _, v2 := cgroupOf(t, os.Getpid(), "memory"); !v2 {
		t.Skip("cgroup v1")
	}
	disk := diskOf(t, h.Root)
	pod := h.RunPod(kubeletPod(h, "io"))
	config := h.ContainerConfig("c")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{Unified: map[string]string{
		"io.max": disk + " rbps=1048576 wiops=100", "io.weight": "default 50",
	}}
	id := pod.Run(config)
	pid := h.ContainerPID(id)
	for file, want := range map[string]string{"io.max": disk + " rbps=1048576 wbps=max riops=max wiops=100", "io.weight": "default 50"} {
		if got := arrived(t, pid, "memory", file); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	change := &runtimeapi.LinuxContainerResources{Unified: map[string]string{"io.max": disk + " rbps=max wiops=200", "io.weight": "70"}}
	if err := update(h.Client, id, change); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"io.max": disk + " rbps=max wbps=max riops=max wiops=200", "io.weight": "default 70"} {
		if got := arrived(t, pid, "memory", file); got != want {
			t.Errorf("after the update %s is %q, want %q", file, got, want)
		}
	}
}

// diskOf is the disk below a path, MAJOR:MINOR: a partition has no limits.
func diskOf(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	device := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	sys, err := filepath.EvalSymlinks("/sys/dev/block/" + device)
	if err != nil {
		t.Skipf("%s is not on a disk: %v", path, err)
	}
	if _, err := os.Stat(filepath.Join(sys, "partition")); err != nil {
		return device
	}
	disk, err := os.ReadFile(filepath.Join(filepath.Dir(sys), "dev"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(disk))
}

// nodeHugepages: a container gets the huge pages that it may have, and no more.
func nodeHugepages(t *testing.T, h *Harness) {
	free, err := os.ReadFile("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
	if err != nil || strings.TrimSpace(string(free)) == "0" {
		t.Skip("the node has no huge pages of 2 MB")
	}
	if node, err := cgroups.Detect(); err != nil || !node.Has("hugetlb") {
		t.Skipf("no cgroup limits huge pages: %v", err)
	}
	pod := h.RunPod(kubeletPod(h, "hugepages"))
	config := h.TesterConfig("c", "serve", ":80")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 4 << 20}}}
	id := pod.Run(config)
	limit := "hugetlb.2MB.limit_in_bytes"
	if _, v2 := cgroupOf(t, h.ContainerPID(id), "hugetlb"); v2 {
		limit = "hugetlb.2MB.max"
	}
	if got := arrived(t, h.ContainerPID(id), "hugetlb", limit); got != "4194304" {
		t.Errorf("%s is %q, want 4194304", limit, got)
	}
	take := func(pages string) *runtimeapi.ExecSyncResponse { return h.ExecSync(id, "/tester", "hugepages", pages) }
	if got := take("2"); got.ExitCode != 0 {
		t.Errorf("two pages, which it may have: %v", got)
	}
	if got := take("3"); got.ExitCode == 0 {
		t.Error("it has three pages and may have two")
	}
	change := &runtimeapi.LinuxContainerResources{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 6 << 20}}}
	if err := update(h.Client, id, change); err != nil {
		t.Fatal(err)
	}
	if got := take("3"); got.ExitCode != 0 {
		t.Errorf("three pages, which it may have now: %v", got)
	}
}

// nodeUsers: ids of a pod are others on the node, but for those of its image's files, and of its
// volume's where the runtime maps them; else such a volume is refused in words.
func nodeUsers(t *testing.T, h *Harness) {
	pod := h.RunPod(usersPod(h, "users", 200000))
	volume := filepath.Join(h.Share, "users")
	if err := os.Mkdir(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	config := h.ContainerConfig("c")
	users := pod.Config.Linux.SecurityContext.NamespaceOptions.UsernsOptions
	config.Mounts = []*runtimeapi.Mount{{HostPath: volume, ContainerPath: "/volume", UidMappings: users.Uids, GidMappings: users.Gids}}
	if exec.Command(h.Programs.Runc, "features").Run() != nil {
		// It does not say that it maps the ids of mounts. The image store maps the image's.
		_, err := pod.TryCreate(config)
		h.Refused(err, codes.Unimplemented, "mounts[0].uidMappings", "needs a runtime that maps the ids of mounts")
		config.Mounts = []*runtimeapi.Mount{{HostPath: volume, ContainerPath: "/volume"}}
		if err := os.Chown(volume, 200000, 200000); err != nil {
			t.Fatal(err)
		}
	}
	id := pod.Run(config)
	got := h.Exec(id, "sh", "-c", "touch /volume/file /made; stat -c %u:%g /bin/busybox /made /volume/file /etc/hosts /dev/shm /dev/mqueue | uniq; cat /proc/self/uid_map")
	if lines := strings.Split(got, "\n"); len(lines) != 2 || lines[0] != "0:0" || strings.Join(strings.Fields(lines[1]), " ") != "0 200000 65536" {
		t.Errorf("the owner of files, and the mapping: %q", got)
	}
	owner := func(path string) uint32 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Uid
	}
	if got, want := owner(filepath.Join(volume, "file")), owner(volume); got != want {
		t.Errorf("on the node, the file in the volume belongs to %d, and the volume to %d", got, want)
	}
	if got := owner(fmt.Sprintf("/proc/%d", h.ContainerPID(id))); got != 200000 {
		t.Errorf("on the node, the process is %d's", got)
	}
}
