package kubelet

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func amounts(cpu, memory string) core.ResourceList {
	return core.ResourceList{core.ResourceCPU: resource.MustParse(cpu), core.ResourceMemory: resource.MustParse(memory)}
}

func oomKilled(n *node) {
	main := n.shell("main", "tail /dev/zero; sleep 1; exit 99")
	main.Command = []string{"tail", "/dev/zero"}
	main.Resources.Limits = amounts("1", "32Mi")
	m := manifest("oom", main)
	m.Spec.RestartPolicy = core.RestartPolicyNever
	status := n.write(m).wait("has Failed", func(s core.PodStatus) bool { return s.Phase == core.PodFailed })
	ended := container(status, "main").State.Terminated
	if ended == nil || ended.Reason != "OOMKilled" || ended.ExitCode != 137 {
		n.t.Errorf("it ended as %v, want OOMKilled and 137", ended)
	}
}

// qos: each class has its place, and limits arrive in the kernel.
func qos(n *node) {
	guaranteed, burstable, best := n.shell("main", "exec sleep 3600"), n.shell("main", "exec sleep 3600"), n.shell("main", "exec sleep 3600")
	guaranteed.Resources.Limits, guaranteed.Resources.Requests = amounts("500m", "64Mi"), amounts("500m", "64Mi")
	burstable.Resources.Limits, burstable.Resources.Requests = amounts("300m", "96Mi"), amounts("250m", "32Mi")
	for _, c := range []struct {
		name, class string
		container   core.Container
		want        map[string]string
		score       string
	}{
		{"guaranteed", "", guaranteed, map[string]string{cpuShares: "512", cpuQuota: "50000", cpuPeriod: "100000", memoryLimit: "67108864"}, ""},
		{"burstable", "burstable", burstable, map[string]string{cpuShares: "256", cpuQuota: "30000", memoryLimit: "100663296"}, ""},
		{"besteffort", "besteffort", best, map[string]string{cpuShares: "2", cpuQuota: "-1"}, "1000"},
	} {
		p := n.runReady(manifest("qos-"+c.name, c.container))
		same(n.t, "class", strings.ToLower(string(p.status().QOSClass)), c.name)
		pid := n.ContainerPID(p.containerID("main"))
		place := cgroupsOf(n, pid)
		parent := filepath.Join(n.CgroupParent, "kubepods", c.class, "pod")
		for _, controller := range []string{"cpu", "memory", "pids"} {
			if at := cmp.Or(place[controller], place[""]); !strings.HasPrefix(at, parent) {
				n.t.Errorf("%s: the %s cgroup is %s, want one below %s*", c.name, controller, at, parent)
			}
		}
		for file, want := range c.want {
			// Runtimes do not agree on the weight that shares become.
			if unified() && file == cpuShares {
				continue
			}
			same(n.t, c.name+" "+file, limit(n, place, file), want)
		}
		if score := p.exec("main", "cat", "/proc/1/oom_score_adj"); c.score != "" && score != c.score {
			n.t.Errorf("%s: oom_score_adj %s, want %s", c.name, score, c.score)
		}
	}
}

// Limits have their names in cgroup v1.
const (
	cpuShares   = "cpu.shares"
	cpuQuota    = "cpu.cfs_quota_us"
	cpuPeriod   = "cpu.cfs_period_us"
	memoryLimit = "memory.limit_in_bytes"
)

// limit reads a limit of a process's cgroup, in the words of cgroup v1.
func limit(n *node, places map[string]string, limit string) string {
	n.t.Helper()
	controller, _, _ := strings.Cut(limit, ".")
	path := filepath.Join("/sys/fs/cgroup", controller, places[controller], limit)
	if unified() {
		file := map[string]string{cpuQuota: "cpu.max", cpuPeriod: "cpu.max", memoryLimit: "memory.max"}[limit]
		path = filepath.Join("/sys/fs/cgroup", places[""], file)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	fields := strings.Fields(string(content))
	if limit == cpuPeriod {
		return fields[len(fields)-1]
	}
	if fields[0] == "max" {
		return "-1"
	}
	return fields[0]
}

// unified reports whether the node has cgroup v2 alone.
func unified() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// hugePages: a volume of them, in a pod that may use them.
func hugePages(n *node) {
	if reserved, err := os.ReadFile(hugePagesFile); err != nil || strings.TrimSpace(string(reserved)) == "0" {
		n.t.Skipf("the node has no huge pages: %v", err)
	}
	main := n.shell("main", "exec sleep 3600")
	main.Resources.Limits = amounts("100m", "32Mi")
	main.Resources.Limits[core.ResourceHugePagesPrefix+"2Mi"] = resource.MustParse("2Mi")
	main.VolumeMounts = []core.VolumeMount{{Name: "huge", MountPath: "/huge"}}
	m := manifest("hugepages", main)
	m.Spec.Volumes = []core.Volume{{Name: "huge", VolumeSource: core.VolumeSource{EmptyDir: &core.EmptyDirVolumeSource{Medium: core.StorageMediumHugePages}}}}
	p := n.runReady(m)
	mounts := p.exec("main", "grep", " /huge ", "/proc/mounts")
	if fields := strings.Fields(mounts); len(fields) < 4 || fields[2] != "hugetlbfs" || !strings.Contains(fields[3], "pagesize=2M") {
		n.t.Errorf("the volume is %q", mounts)
	}
	p.exec("main", "fallocate", "-l", "2097152", "/huge/page")
	same(n.t, "size of the page", p.exec("main", "stat", "-c", "%s", "/huge/page"), "2097152")
}

// cgroupsOf are the paths of a process's cgroups, by controller.
func cgroupsOf(n *node, pid int) map[string]string {
	n.t.Helper()
	content, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "cgroup"))
	if err != nil {
		n.t.Fatal(err)
	}
	place := map[string]string{}
	for line := range strings.Lines(string(content)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for _, controller := range strings.Split(fields[1], ",") {
			place[controller] = fields[2]
		}
	}
	return place
}
