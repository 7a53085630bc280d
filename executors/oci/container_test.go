package oci_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec"
)

func TestLimitsAreInTheCgroup(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", "sleep 1000")
	in.Container.Linux.Resources = &cri.LinuxContainerResources{
		MemoryLimitInBytes: 64 << 20, CpuQuota: 50000, CpuPeriod: 100000, CpuShares: 512, CpusetCpus: "0",
		HugepageLimits: []*cri.HugepageLimit{{PageSize: "2MB"}},
	}
	p := n.run(in)
	limit := strconv.Itoa(64 << 20)
	got := []string{
		n.cgroupFile("c1", "memory", "memory.limit_in_bytes", "memory.max"),
		n.cgroupFile("c1", "cpu", "cpu.cfs_quota_us", "cpu.max"),
		n.cgroupFile("c1", "cpuset", "cpuset.cpus", "cpuset.cpus"),
	}
	want := []string{"memory.limit_in_bytes=" + limit, "cpu.cfs_quota_us=50000", "cpuset.cpus=0"}
	if n.host.CgroupV2 {
		want = []string{"memory.max=" + limit, "cpu.max=50000 100000", "cpuset.cpus=0"}
	} else {
		got = append(got, n.cgroupFile("c1", "cpu", "cpu.shares", ""))
		want = append(want, "cpu.shares=512")
		if n.host.SwapLimit {
			got = append(got, n.cgroupFile("c1", "memory", "memory.memsw.limit_in_bytes", ""))
			want = append(want, "memory.memsw.limit_in_bytes="+limit)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if pids := n.members("c1"); !slices.Contains(pids, p.PID) {
		t.Errorf("%d is not among %v", p.PID, pids)
	}
}

func TestOutOfMemoryIsNoticed(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", "head -c 200000000 /dev/zero | sort >/dev/null; exit 4")
	in.Container.Linux.Resources.MemoryLimitInBytes = 24 << 20
	n.run(in)
	if e := n.exit("c1"); !e.OOMKilled {
		t.Errorf("exit %+v", e)
	}
}

func TestUsers(t *testing.T) {
	n := newNode(t)
	for id, change := range map[string]func(spec.Input){
		"uid=0(root) gid=0(root) groups=0(root)": func(in spec.Input) {},
		"uid=1000(app) gid=1000(app) groups=29(audio),1000(app)": func(in spec.Input) {
			in.Image.Config.User = "app"
		},
		"uid=1000(app) gid=5(5) groups=5(5),29(audio),77": func(in spec.Input) {
			security(in).RunAsUser = &cri.Int64Value{Value: 1000}
			security(in).RunAsGroup = &cri.Int64Value{Value: 5}
			security(in).SupplementalGroups = []int64{77}
		},
		"uid=4242(4242) gid=0(root) groups=0(root),77": func(in spec.Input) {
			security(in).RunAsUser = &cri.Int64Value{Value: 4242}
			security(in).SupplementalGroups = []int64{77}
			security(in).SupplementalGroupsPolicy = cri.SupplementalGroupsPolicy_Strict
		},
	} {
		in := n.input("u"+strconv.Itoa(len(n.bundles)), "id")
		change(in)
		if got := strings.TrimSpace(n.output(in)); sorted(got) != sorted(id) {
			t.Errorf("id says %q, want %q", got, id)
		}
	}
}

// sorted puts the groups that id lists into an order.
func sorted(id string) string {
	before, groups, _ := strings.Cut(id, "groups=")
	list := strings.Split(groups, ",")
	slices.Sort(list)
	return before + strings.Join(list, ",")
}

func TestMounts(t *testing.T) {
	n := newNode(t)
	host := n.path("host")
	n.must(os.MkdirAll(filepath.Join(host, "sub"), 0o777))
	for _, file := range []string{"term", "hosts"} {
		n.must(os.WriteFile(filepath.Join(host, file), []byte("127.0.0.1 kubelet\n"), 0o666))
	}
	in := n.input("c1", `exec 2>/dev/null
echo bye > /dev/termination-log
cat /etc/hosts /etc/hostname
cat /etc/resolv.conf > /rw/resolv
for dir in /rw /new /dev/shm /ro /rro /sys $(ls -d /sys/fs/cgroup/memory || echo /sys/fs/cgroup); do mkdir $dir/made && echo made $dir; done
grep -c ' /dev/shm tmpfs' /proc/mounts
ls -d /proc/self /dev/pts/ptmx /dev/mqueue`)
	in.Container.Mounts = []*cri.Mount{
		{ContainerPath: "/rw", HostPath: host},
		{ContainerPath: "/ro", HostPath: host, Readonly: true},
		{ContainerPath: "/rro", HostPath: host, Readonly: true, RecursiveReadOnly: true},
		{ContainerPath: "/new", HostPath: filepath.Join(host, "not/there/yet")},
		{ContainerPath: "/dev/termination-log", HostPath: filepath.Join(host, "term")},
		{ContainerPath: "/etc/hosts", HostPath: filepath.Join(host, "hosts")},
	}
	want := "127.0.0.1 kubelet\npod-host\nmade /rw\nmade /new\nmade /dev/shm\n1\n/dev/mqueue\n/dev/pts/ptmx\n/proc/self\n"
	if got := n.output(in); got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	resolv, err := os.ReadFile(n.files.ResolvConf)
	n.must(err)
	for name, want := range map[string]string{"term": "bye\n", "resolv": string(resolv)} {
		if got, err := os.ReadFile(filepath.Join(host, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, dir := range []string{filepath.Join(host, "made"), filepath.Join(host, "not/there/yet/made"), filepath.Join(n.files.Shm, "made")} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestImageVolumeAndWorkingDir(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", "pwd; cat /vol/seed; touch /vol/x; touch here")
	in.Image.Config.Volumes = map[string]struct{}{"/vol": {}}
	in.Image.Config.WorkingDir = "/not/there"
	if got := n.output(in); got != "/not/there\nfrom the image\n" && got != "/not/there\nfrom the image" {
		t.Errorf("said %q", got)
	}
	if _, err := os.Stat(n.path("volumes/c1/0/x")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(n.path("rootfs/vol/x")); err == nil {
		t.Error("written through to the image")
	}
}

func TestReadonlyRootfs(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", "! touch /x && ! touch /etc/resolv.conf && touch /dev/shm/x && echo fine")
	security(in).ReadonlyRootfs = true
	if got := n.output(in); !strings.HasSuffix(got, "fine\n") {
		t.Errorf("said %q", got)
	}
}

// A privileged container gets all that the runtime itself has, and so works on a
// node that lacks a capability.
func TestPrivileged(t *testing.T) {
	n := newNode(t)
	n.pod.Linux.SecurityContext.Privileged = true
	in := n.input("c1", `set -e
grep -E '^(CapEff|CapBnd|Seccomp):' /proc/self/status
mkdir -p /tmp/m; mount -t tmpfs none /tmp/m; echo mounted
! grep -q ' /sys sysfs ro' /proc/mounts
cat /proc/kcore | head -c 1 >/dev/null; ls /dev/null
cat < /dev/urandom | head -c 1 | wc -c`)
	security(in).Privileged = true
	got := n.output(in)
	if !strings.Contains(got, "Seccomp:\t0") || !strings.Contains(got, "mounted") {
		t.Errorf("said %q", got)
	}
	own, err := os.ReadFile("/proc/self/status")
	n.must(err)
	for line := range strings.Lines(string(own)) {
		if strings.HasPrefix(line, "CapBnd:") && !strings.Contains(got, line) {
			t.Errorf("said %q, want %q", got, line)
		}
	}
}

func TestOrdinaryContainerIsConfined(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", `grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status
unshare -U true; echo unshare $?
mount -t tmpfs none /tmp; echo mount $?
echo masked $(cat /proc/interrupts | wc -c)
echo 1 > /proc/sys/kernel/panic_print; echo sysctl $?
echo open $(ls -l /proc/self/fd | grep -c -v -e total -e ' [012] -> ')`)
	security(in).NoNewPrivs = true
	n.run(in)
	n.exit("c1")
	got := n.said("c1")
	for _, want := range []string{
		"CapInh:\t0000000000000000", "CapAmb:\t0000000000000000", "CapBnd:\t00000000000005fb", "CapEff:\t00000000000005fb",
		"NoNewPrivs:\t1", "Seccomp:\t2", "unshare 1", "mount 1", "masked 0", "sysctl 1",
		// CVE-2024-21626: nothing is open but the three, and what lists them.
		"open 1\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

func TestAmbientCapability(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", "grep -E '^Cap(Eff|Amb):' /proc/self/status")
	security(in).RunAsUser = &cri.Int64Value{Value: 1000}
	security(in).Capabilities = &cri.Capability{DropCapabilities: []string{"ALL"}, AddAmbientCapabilities: []string{"NET_BIND_SERVICE"}}
	if got := n.output(in); got != "CapEff:\t0000000000000400\nCapAmb:\t0000000000000400\n" {
		t.Errorf("said %q", got)
	}
}

func TestDevice(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", "ls /dev/mine && head -c 3 /dev/mine | wc -c")
	in.Container.Devices = []*cri.Device{{HostPath: "/dev/zero", ContainerPath: "/dev/mine", Permissions: "rwm"}}
	if got := n.output(in); got != "/dev/mine\n3\n" {
		t.Errorf("said %q", got)
	}
}

func TestHostNamespaces(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", "for ns in net ipc pid uts; do readlink /proc/self/ns/$ns; done")
	node := cri.NamespaceMode_NODE
	security(in).NamespaceOptions = &cri.NamespaceOption{Network: node, Ipc: node, Pid: node}
	var want strings.Builder
	for _, ns := range []string{"net", "ipc", "pid", "uts"} {
		link, err := os.Readlink("/proc/self/ns/" + ns)
		n.must(err)
		want.WriteString(link + "\n")
	}
	if got := n.output(in); got != want.String() {
		t.Errorf("said %q, want %q", got, want.String())
	}
}

// A pod that shares a PID namespace: the holder is its init and reaps.
func TestHolder(t *testing.T) {
	n := newNode(t)
	path, err := n.cgroups.ContainerPath("", podID, "holder")
	n.must(err)
	rootfs := n.path("holder")
	n.must(os.MkdirAll(rootfs, 0o755))
	s, err := spec.Holder(spec.HolderInput{
		SandboxID: podID, Sandbox: n.pod, Rootfs: rootfs, Binary: tools.monitor,
		Namespaces: spec.Namespaces{Net: "/proc/self/ns/net", IPC: "/proc/self/ns/ipc"}, CgroupsPath: path, Host: n.host,
	})
	n.must(err)
	b := n.bundleOf("holder", s)
	b.LogPath = ""
	holder, err := n.driver.Create(t.Context(), b)
	n.must(err)
	n.start("holder")

	in := n.input("c1", "ps; (sleep 0.3 &) ; exec sleep 1000")
	security(in).NamespaceOptions.Pid = cri.NamespaceMode_POD
	in.Namespaces.PID = "/proc/" + strconv.Itoa(holder.PID) + "/ns/pid"
	n.run(in)
	n.eventually("the container sees the holder", func() bool { return strings.Contains(n.said("c1"), "/pause pause") })
	children := func() string {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", holder.PID, holder.PID))
		n.must(err)
		return string(data)
	}
	n.eventually("the holder has the orphan", func() bool { return children() != "" })
	n.eventually("the orphan is reaped", func() bool { return children() == "" })
	status, err := os.ReadFile("/proc/" + strconv.Itoa(holder.PID) + "/status")
	n.must(err)
	for _, want := range []string{"CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "Uid:\t65534"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("the holder's status has no %q", want)
		}
	}
	n.must(n.driver.Kill(t.Context(), n.container("c1"), unix.SIGKILL, true))
	n.must(n.driver.Kill(t.Context(), n.container("holder"), unix.SIGTERM, false))
	if e := n.exit("holder"); e.Code != 0 {
		t.Errorf("the holder ended with %+v", e)
	}
}

// CVE-2024-5154: an image whose /etc is a link gets no file made on the node.
func TestLinkedEtc(t *testing.T) {
	n := newNode(t)
	outside := n.path("outside")
	n.must(os.Mkdir(outside, 0o755))
	for id, link := range map[string]string{"abs": outside, "rel": "../outside"} {
		rootfs := n.path("rootfs-" + id)
		n.makeRootfs(rootfs)
		n.must(os.RemoveAll(filepath.Join(rootfs, "etc")))
		n.must(os.Symlink(link, filepath.Join(rootfs, "etc")))
		in := n.input(id, "true")
		in.Rootfs = rootfs
		in.Container.WorkingDir = "/etc/work"
		in.Image.Config.Volumes = map[string]struct{}{"/etc/volume": {}}
		s, err := n.plan(in)
		if err == nil {
			_, err = n.driver.Create(t.Context(), n.bundleOf(id, s))
		}
		if left, _ := os.ReadDir(outside); len(left) > 0 {
			t.Errorf("%s: made on the node: %v (create: %v)", id, left, err)
		}
	}
}
