package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// testerReport is what `tester report` prints, as far as tests look at it.
type testerReport struct {
	Args, Env, Mounts []string
	Dir, Hostname     string
	PID, UID, GID     int
	Groups            []int
	Status            map[string]string
	Namespaces        map[string]string
	OOMScoreAdj       string
}

// env returns the value of a variable, and how often it is there.
func (r testerReport) env(key string) (value string, times int) {
	for _, pair := range r.Env {
		if k, v, _ := strings.Cut(pair, "="); k == key {
			value = v
			times++
		}
	}
	return value, times
}

// report runs a container to its end and returns its report on itself.
func (p *Pod) report(h *Harness, config *runtimeapi.ContainerConfig) testerReport {
	h.t.Helper()
	id := p.Run(config)
	if code := h.WaitExit(id).ExitCode; code != 0 {
		h.t.Fatalf("tester report ended with %d: %v", code, p.Log(config))
	}
	var text strings.Builder
	for _, l := range p.Log(config) {
		text.WriteString(l.Text)
	}
	var r testerReport
	if err := json.Unmarshal([]byte(text.String()), &r); err != nil {
		h.t.Fatalf("the tester's report: %v: %q", err, text.String())
	}
	// The status says the same of the user.
	user := h.ContainerStatus(id).GetUser().GetLinux()
	groups := []int{}
	for _, group := range user.GetSupplementalGroups() {
		groups = append(groups, int(group))
	}
	slices.Sort(groups)
	slices.Sort(r.Groups)
	if int(user.GetUid()) != r.UID || int(user.GetGid()) != r.GID || !slices.Equal(groups, r.Groups) {
		h.t.Errorf("the status's user is %v, the process's %d, %d, %v", user, r.UID, r.GID, r.Groups)
	}
	return r
}

// reportOf runs the tester in a running container and returns its report.
func (c *Client) reportOf(id string) testerReport {
	c.t.Helper()
	var r testerReport
	if out := c.Exec(id, "/tester", "report"); json.Unmarshal([]byte(out), &r) != nil {
		c.t.Fatalf("the tester's report is %q", out)
	}
	return r
}

// TestContainerConfiguration checks from inside what the configuration asked for.
func TestContainerConfiguration(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	podConfig := h.PodConfig("inside")
	podConfig.DnsConfig = &runtimeapi.DNSConfig{Servers: []string{"192.0.2.53"}, Searches: []string{"e2e.example"}, Options: []string{"ndots:5"}}
	pod := h.RunPod(podConfig)

	t.Run("command, environment and directory", func(t *testing.T) { configCommandEnvironmentAndDirectory(t, h.In(t), pod) })
	t.Run("user by number, CVE-2022-2995, CVE-2023-25173", func(t *testing.T) { configUserByNumber(t, h.In(t), pod) })
	t.Run("user by name", func(t *testing.T) { configUserByName(t, h.In(t), pod) })
	t.Run("capabilities", func(t *testing.T) { configCapabilities(t, h.In(t), pod) })
	t.Run("mounts", func(t *testing.T) { configMounts(t, h.In(t), pod) })
	t.Run("read-only root", func(t *testing.T) { configReadOnlyRoot(t, h.In(t), pod) })
	t.Run("files of the pod", func(t *testing.T) { configFilesOfThePod(t, h.In(t), pod) })
	t.Run("privileged", func(t *testing.T) { configPrivileged(t, h.In(t)) })
}

func configCommandEnvironmentAndDirectory(t *testing.T, h *Harness, pod *Pod) {
	config := h.TesterConfig("plain", "report", "--flag", "a b")
	config.WorkingDir = "/tmp"
	config.Envs = []*runtimeapi.KeyValue{
		{Key: "EMPTY", Value: nil}, {Key: "TWICE", Value: []byte("first")}, {Key: "TWICE", Value: []byte("last")},
		{Key: "EQUALS", Value: []byte("a=b c")},
	}
	r := pod.report(h, config)
	if want := []string{"/tester", "report", "--flag", "a b"}; !slices.Equal(r.Args, want) {
		t.Errorf("arguments %q, want %q", r.Args, want)
	}
	if r.Dir != "/tmp" {
		t.Errorf("working directory %q", r.Dir)
	}
	for key, want := range map[string]string{"EMPTY": "", "EQUALS": "a=b c", "TWICE": "last"} {
		if got, times := r.env(key); got != want || times != 1 {
			t.Errorf("variable %s is %q, %d times; want %q once", key, got, times, want)
		}
	}
	if _, times := r.env("PATH"); times != 1 {
		t.Errorf("no PATH in %q", r.Env)
	}
	if r.Hostname != "inside" || r.PID != 1 || r.UID != 0 || r.GID != 0 {
		t.Errorf("hostname %q, pid %d, uid %d, gid %d", r.Hostname, r.PID, r.UID, r.GID)
	}
	for _, set := range []string{"CapInh", "CapAmb"} {
		if strings.Trim(r.Status[set], "0") != "" {
			t.Errorf("%s is %s, want none", set, r.Status[set])
		}
	}
	if r.Status["Seccomp"] != "0" {
		t.Errorf("seccomp mode %s without a profile, want 0", r.Status["Seccomp"])
	}
}

func configUserByNumber(t *testing.T, h *Harness, pod *Pod) {
	config := h.TesterConfig("number", "report")
	sc := config.Linux.SecurityContext
	sc.RunAsUser, sc.RunAsGroup = &runtimeapi.Int64Value{Value: 1234}, &runtimeapi.Int64Value{Value: 2345}
	sc.SupplementalGroups = []int64{3456}
	sc.NoNewPrivs = true
	sc.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	r := pod.report(h, config)
	if r.UID != 1234 || r.GID != 2345 {
		t.Errorf("uid %d, gid %d; want 1234, 2345", r.UID, r.GID)
	}
	// The primary group is among them: CVE-2022-2995.
	if !slices.Contains(r.Groups, 3456) || !slices.Contains(r.Groups, 2345) {
		t.Errorf("groups %v, want 2345 and 3456 among them", r.Groups)
	}
	if strings.Trim(r.Status["CapEff"], "0") != "" {
		t.Errorf("effective capabilities %s for a user, want none", r.Status["CapEff"])
	}
	if r.Status["NoNewPrivs"] != "1" || r.Status["Seccomp"] != "2" {
		t.Errorf("no_new_privs %s, seccomp %s; want 1, 2", r.Status["NoNewPrivs"], r.Status["Seccomp"])
	}
}

func configUserByName(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("name", "sh", "-c", "id -u; id -g; id -G; echo $HOME")
	config.Linux.SecurityContext.RunAsUsername = "app"
	h.WaitExit(pod.Run(config))
	lines := pod.Log(config)
	if len(lines) != 4 || lines[0].Text != "1000" || lines[1].Text != "1000" || lines[3].Text != "/home/app" {
		t.Fatalf("as app: %v", lines)
	}
	if groups := strings.Fields(lines[2].Text); !slices.Contains(groups, "2000") || !slices.Contains(groups, "2001") {
		t.Errorf("groups %v, want those of /etc/group as well", groups)
	}
}

func configCapabilities(t *testing.T, h *Harness, pod *Pod) {
	config := h.TesterConfig("caps", "report")
	config.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_BIND_SERVICE"}}
	r := pod.report(h, config)
	const netBindService = 1 << 10
	if caps, err := strconv.ParseUint(r.Status["CapEff"], 16, 64); err != nil || caps != netBindService {
		t.Errorf("effective capabilities %s, want only NET_BIND_SERVICE", r.Status["CapEff"])
	}
}

func configMounts(t *testing.T, h *Harness, pod *Pod) {
	dir := filepath.Join(h.Share, "mounts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h.write(filepath.Join(dir, "greeting"), "hello")
	config := h.ContainerConfig("mounts")
	config.Mounts = []*runtimeapi.Mount{
		{HostPath: dir, ContainerPath: "/rw"},
		{HostPath: dir, ContainerPath: "/ro", Readonly: true},
		{HostPath: filepath.Join(dir, "greeting"), ContainerPath: "/etc/greeting", Readonly: true},
	}
	id := pod.Run(config)
	if got := h.Exec(id, "cat", "/rw/greeting", "/ro/greeting", "/etc/greeting"); got != "hellohellohello" {
		t.Errorf("mounted files say %q", got)
	}
	h.Exec(id, "touch", "/rw/new")
	if _, err := os.Stat(filepath.Join(dir, "new")); err != nil {
		t.Errorf("a file made in a mount: %v", err)
	}
	for _, path := range []string{"/ro/new", "/etc/greeting"} {
		if h.ExecSync(id, "touch", path).ExitCode == 0 {
			t.Errorf("%s can be written", path)
		}
	}
	if mounts := h.ContainerStatus(id).Mounts; len(mounts) != 3 {
		t.Errorf("the status has %d mounts, want 3", len(mounts))
	}
}

func configReadOnlyRoot(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("readonly")
	config.Linux.SecurityContext.ReadonlyRootfs = true
	id := pod.Run(config)
	if h.ExecSync(id, "touch", "/file").ExitCode == 0 {
		t.Error("the root can be written")
	}
	h.Exec(id, "touch", "/dev/shm/file")
}

func configFilesOfThePod(t *testing.T, h *Harness, pod *Pod) {
	id := pod.Run(h.ContainerConfig("files"))
	if got := h.Exec(id, "cat", "/etc/resolv.conf"); !strings.Contains(got, "nameserver 192.0.2.53") ||
		!strings.Contains(got, "search e2e.example") || !strings.Contains(got, "options ndots:5") {
		t.Errorf("resolv.conf: %q", got)
	}
	if got := h.Exec(id, "hostname"); got != "inside" {
		t.Errorf("hostname %q", got)
	}
	// The containers of a pod share /dev/shm.
	other := pod.Run(h.ContainerConfig("files2"))
	h.Exec(id, "sh", "-c", "echo shared >/dev/shm/note")
	if got := h.Exec(other, "cat", "/dev/shm/note"); got != "shared" {
		t.Errorf("/dev/shm of the other container has %q", got)
	}
	for _, file := range []string{"/proc/sys/kernel/printk", "/proc/sysrq-trigger", "/sys/kernel/mm/transparent_hugepage/enabled"} {
		if h.ExecSync(id, "sh", "-c", "true >>"+file).ExitCode == 0 {
			t.Errorf("%s can be written", file)
		}
	}
	for _, file := range []string{"/proc/keys", "/proc/timer_list", "/proc/kcore"} {
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			continue // this kernel doesn't have it
		}
		if got := h.Exec(id, "head", "-c", "1", file); got != "" {
			t.Errorf("%s is not masked", file)
		}
	}
}

func configPrivileged(t *testing.T, h *Harness) {
	podConfig := h.PodConfig("mighty")
	podConfig.Linux.SecurityContext.Privileged = true
	pod := h.RunPod(podConfig)
	config := h.TesterConfig("privileged", "report")
	config.Linux.SecurityContext.Privileged = true
	r := pod.report(h, config)
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	// No more than the daemon itself has.
	if !strings.Contains(string(own), "CapBnd:\t"+r.Status["CapEff"]) {
		t.Errorf("effective capabilities %s, want what the node gives", r.Status["CapEff"])
	}
}

// TestSysctls sets one in the pod's own namespace, and not on the node.
func TestSysctls(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	config := h.PodConfig("sysctl")
	config.Linux.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "7", "kernel.shm_rmid_forced": "1"}
	id := h.RunPod(config).Run(h.ContainerConfig("c"))
	if got := h.Exec(id, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/shm_rmid_forced"); got != "7\n1" {
		t.Errorf("sysctls are %q, want 7 and 1", got)
	}
	node, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil || strings.TrimSpace(string(node)) == "7" {
		t.Errorf("the node's sysctl is %q, %v", node, err)
	}
}
