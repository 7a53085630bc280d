package kubelet

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const (
	// page tells how to set up a node.
	page = "../../docs/kubeadm.md"
	// pagesSocket is Stele's there.
	pagesSocket = "unix:///run/stele/stele.sock"
	// kubernetesVersion is kubeadm's; it would ask the Internet for the newest.
	kubernetesVersion = "v1.37.2"
	// pagesDropIn is the page's file for a kubelet.
	pagesDropIn = "/etc/kubernetes/kubelet.conf.d/10-stele.conf"
)

// announced ends a paragraph of the page before a file.
var announced = regexp.MustCompile("in `(/etc/[^`]+)`:$")

// pagesFiles are the files that the page shows, by path.
func pagesFiles(t testing.TB) map[string]string {
	t.Helper()
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	files, path := map[string]string{}, ""
	for line := range strings.Lines(string(content)) {
		switch found := announced.FindStringSubmatch(strings.TrimSpace(line)); {
		case found != nil:
			path = found[1]
		case path != "" && (strings.HasPrefix(line, "    ") || line == "\n"):
			files[path] += strings.TrimPrefix(line, "    ")
		default:
			path = ""
		}
	}
	return files
}

// kubeadmPage gives the files of docs/kubeadm.md to those who read them on a node. The kubelet of
// this cluster was told by one of them where Stele is.
func kubeadmPage(c *cluster) {
	files := pagesFiles(c.t)
	for _, module := range strings.Fields(files["/etc/modules-load.d/stele.conf"]) {
		if out, err := exec.Command("modprobe", "--dry-run", "--quiet", module).CombinedOutput(); err != nil && !builtIn(module) {
			c.t.Logf("this kernel has no module %s: %v %s", module, err, out)
		}
	}
	setSysctls(c.node, files["/etc/sysctl.d/99-stele.conf"])
	unit := c.path("stele.service")
	verifyUnit(c.node, unit, strings.ReplaceAll(files["/etc/systemd/system/stele.service"], "/usr/local/bin/stele ", programs.Stele+" "))
	var crictl map[string]string
	if err := yaml.UnmarshalStrict([]byte(files["/etc/crictl.yaml"]), &crictl); err != nil {
		c.t.Errorf("/etc/crictl.yaml: %v", err)
	}
	same(c.t, "crictl's runtime", crictl["runtime-endpoint"], pagesSocket)
	same(c.t, "crictl's images", crictl["image-endpoint"], pagesSocket)
	checkKubeadm(c.node, files["/etc/kubernetes/stele.yaml"])
}

// builtIn reports whether a module is part of the kernel.
func builtIn(module string) bool {
	_, err := os.Stat(filepath.Join("/sys/module", module))
	return err == nil
}

// setSysctls sets the page's kernel settings in the test's network namespace.
func setSysctls(n *node, content string) {
	n.t.Helper()
	lines := strings.Split(strings.TrimSpace(content), "\n")
	if len(lines) < 3 {
		n.t.Errorf("the page sets only %q", lines)
	}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, " = ")
		path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
		if strings.HasPrefix(key, "net.bridge.") && !builtIn("br_netfilter") {
			n.t.Logf("%s: this kernel has no br_netfilter", key)
			continue
		}
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			n.t.Errorf("set %s: %v", key, err)
		}
	}
}

// verifyUnit has systemd read a unit; it says nothing about a good one.
func verifyUnit(n *node, path, content string) {
	n.t.Helper()
	if !strings.Contains(content, programs.Stele) {
		n.t.Errorf("the unit does not start Stele:\n%s", content)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		n.t.Fatal(err)
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		n.t.Log("systemd is not installed: its unit is not verified")
		return
	}
	if out, err := exec.Command("systemd-analyze", "verify", path).CombinedOutput(); err != nil || len(out) > 0 {
		n.t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// kubeadm has kubeadm check the page's configuration, and this node as far as the runtime goes:
// that it answers, and says how it makes cgroups. Nothing is pulled.
func checkKubeadm(n *node, content string) {
	n.t.Helper()
	for _, change := range []struct{ old, new string }{
		{pagesSocket, "unix://" + n.Socket},
		{"nodeRegistration:\n", "nodeRegistration:\n  imagePullPolicy: Never\n"},
		{"kind: ClusterConfiguration\n", "kind: ClusterConfiguration\nkubernetesVersion: " + kubernetesVersion + "\n"},
	} {
		if strings.Count(content, change.old) != 1 {
			n.t.Fatalf("there is not one %q in\n%s", change.old, content)
		}
		content = strings.ReplaceAll(content, change.old, change.new)
	}
	config := n.path("kubeadm.yaml")
	if err := os.WriteFile(config, []byte(content), 0o644); err != nil {
		n.t.Fatal(err)
	}
	out, err := exec.Command(programs.kubeadm, "config", "validate", "--config", config).CombinedOutput()
	if err != nil || strings.Contains(string(out), "WARNING") {
		n.t.Errorf("kubeadm config validate: %v\n%s", err, out)
	}
	// What else kubeadm asks of a node, this machine need not have.
	out, err = exec.Command(programs.kubeadm, "init", "phase", "preflight", "--config", config, "--ignore-preflight-errors=all").CombinedOutput()
	if err != nil {
		n.t.Errorf("kubeadm init phase preflight: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		for _, check := range []string{"CRI", "ContainerRuntimeVersion", "ImagePull"} {
			if strings.Contains(line, check+"]:") {
				n.t.Errorf("kubeadm's check of the node: %s", line)
			}
		}
	}
}
