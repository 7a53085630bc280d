package kubelet

import (
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
		{"guaranteed", "", guaranteed, map[string]string{"cpu.shares": "512", "cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000", "memory.limit_in_bytes": "67108864"}, ""},
		{"burstable", "burstable", burstable, map[string]string{"cpu.shares": "256", "cpu.cfs_quota_us": "30000", "memory.limit_in_bytes": "100663296"}, ""},
		{"besteffort", "besteffort", best, map[string]string{"cpu.shares": "2", "cpu.cfs_quota_us": "-1"}, "1000"},
	} {
		p := n.runReady(manifest("qos-"+c.name, c.container))
		same(n.t, "class", strings.ToLower(string(p.status().QOSClass)), c.name)
		pid := n.ContainerPID(p.containerID("main"))
		place := cgroupsOf(n, pid)
		parent := filepath.Join(n.CgroupParent, "kubepods", c.class, "pod")
		for _, controller := range []string{"cpu", "memory", "pids"} {
			if !strings.HasPrefix(place[controller], parent) {
				n.t.Errorf("%s: the %s cgroup is %s, want one below %s*", c.name, controller, place[controller], parent)
			}
		}
		for file, want := range c.want {
			controller, _, _ := strings.Cut(file, ".")
			content, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", controller, place[controller], file))
			if err != nil {
				n.t.Error(err)
			}
			same(n.t, c.name+" "+file, strings.TrimSpace(string(content)), want)
		}
		if score := p.exec("main", "cat", "/proc/1/oom_score_adj"); c.score != "" && score != c.score {
			n.t.Errorf("%s: oom_score_adj %s, want %s", c.name, score, c.score)
		}
	}
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
