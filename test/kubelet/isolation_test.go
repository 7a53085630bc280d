package kubelet

import (
	"fmt"
	"os"
	"strings"

	core "k8s.io/api/core/v1"
)

func sharedPID(n *node) {
	m := manifest("shared-pid", n.shell("one", "exec sleep 3601"), n.shell("two", "exec sleep 3602"))
	share := true
	m.Spec.ShareProcessNamespace = &share
	p := n.runReady(m)
	for _, name := range []string{"one", "two"} {
		if seen := p.exec(name, "ps", "-o", "args"); !strings.Contains(seen, "sleep 3601") || !strings.Contains(seen, "sleep 3602") {
			n.t.Errorf("%s sees the processes\n%s", name, seen)
		}
		if first := p.exec(name, "cat", "/proc/1/comm"); first == "sleep" {
			n.t.Errorf("pid 1 of the pod is a container's: %s", first)
		}
	}
	other := n.runReady(manifest("own-pid", n.shell("one", "exec sleep 3603"), n.shell("two", "exec sleep 3604")))
	if seen := other.exec("one", "ps", "-o", "args"); strings.Contains(seen, "sleep 3604") {
		n.t.Errorf("a container sees another's processes\n%s", seen)
	}
}

// hostNamespaces: a pod has the node's namespaces that it asks for.
func hostNamespaces(n *node) {
	for _, c := range []struct {
		name, file string
		ask        func(*core.PodSpec)
	}{
		{"network", "net", func(s *core.PodSpec) { s.HostNetwork = true }},
		{"pid", "pid", func(s *core.PodSpec) { s.HostPID = true }},
		{"ipc", "ipc", func(s *core.PodSpec) { s.HostIPC = true }},
	} {
		m := manifest("host-"+c.name, n.shell("main", "exec sleep 3600"))
		c.ask(&m.Spec)
		p := n.runReady(m)
		for _, file := range []string{"net", "pid", "ipc", "uts", "mnt"} {
			own, err := os.Readlink("/proc/self/ns/" + file)
			if err != nil {
				n.t.Fatal(err)
			}
			// A pod in the host's network has its name, too.
			want := file == c.file || file == "uts" && c.file == "net"
			if got := p.exec("main", "readlink", "/proc/self/ns/"+file) == own; got != want {
				n.t.Errorf("host %s: the pod is in the host's %s namespace: %v", c.name, file, got)
			}
		}
	}
}

func hostPort(n *node) {
	main := n.tester("server", "serve", ":8080")
	main.Ports = []core.ContainerPort{{ContainerPort: 8080, HostPort: 18080}}
	p := n.runReady(manifest("host-port", main))
	want := fmt.Sprintf(`"Hostname":"%s"`, p.name)
	for _, address := range []string{nodeAddress, "127.0.0.1"} {
		if body := n.web(address + ":18080"); !strings.Contains(body, want) {
			n.t.Errorf("%s:18080 answers %s, want %s", address, body, want)
		}
	}
}

func userNamespace(n *node) {
	m := withScratch(manifest("userns", n.shell("main", "echo mine >/share/file; exec sleep 3600")))
	no := false
	m.Spec.HostUsers = &no
	p := n.runReady(m)
	fields := strings.Fields(p.exec("main", "cat", "/proc/self/uid_map"))
	if len(fields) != 3 || fields[0] != "0" || fields[1] == "0" || fields[2] != "65536" {
		n.t.Errorf("uid map %q", fields)
	}
	same(n.t, "owner of a file in a volume", p.exec("main", "stat", "-c", "%u", "/share/file"), "0")
	same(n.t, "user", p.exec("main", "id", "-u"), "0")
}

func hostnames(n *node) {
	m := manifest("names", n.shell("main", "exec sleep 3600"))
	m.Spec.Hostname, m.Spec.Subdomain = "chosen", "sub"
	m.Spec.HostAliases = []core.HostAlias{{IP: "10.1.2.3", Hostnames: []string{"elsewhere"}}}
	m.Spec.DNSPolicy = core.DNSNone
	m.Spec.DNSConfig = &core.PodDNSConfig{Nameservers: []string{"10.9.8.7"}, Searches: []string{"example.org"}}
	p := n.runReady(m)
	same(n.t, "hostname", p.exec("main", "hostname"), "chosen")
	hosts := p.exec("main", "cat", "/etc/hosts")
	for _, want := range []string{"10.1.2.3\telsewhere", p.status().PodIP + "\tchosen"} {
		if !strings.Contains(hosts, want) {
			n.t.Errorf("/etc/hosts has no %q:\n%s", want, hosts)
		}
	}
	same(n.t, "resolv.conf", p.exec("main", "cat", "/etc/resolv.conf"), "search example.org\nnameserver 10.9.8.7")
}

func securityContext(n *node) {
	main := n.shell("main", "exec sleep 3600")
	user, group, yes, no := int64(1000), int64(1000), true, false
	main.SecurityContext = &core.SecurityContext{
		RunAsUser: &user, RunAsGroup: &group, RunAsNonRoot: &yes, ReadOnlyRootFilesystem: &yes, AllowPrivilegeEscalation: &no,
		Capabilities:   &core.Capabilities{Drop: []core.Capability{"ALL"}},
		SeccompProfile: &core.SeccompProfile{Type: core.SeccompProfileTypeRuntimeDefault},
	}
	m := withScratch(manifest("security", main))
	fsGroup := int64(4242)
	m.Spec.SecurityContext = &core.PodSecurityContext{FSGroup: &fsGroup, SupplementalGroups: []int64{777}}
	p := n.runReady(m)
	same(n.t, "ids", p.exec("main", "sh", "-c", "id -u; id -g; id -G"), "1000\n1000\n1000 777 2000 2001 4242")
	same(n.t, "owner of the volume", p.exec("main", "stat", "-c", "%g", "/share"), "4242")
	status := p.exec("main", "grep", "-E", "^(CapEff|NoNewPrivs|Seccomp):", "/proc/1/status")
	same(n.t, "status", status, "CapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2")
	if out, err := p.tryExec("main", "touch", "/new"); err == nil || !strings.Contains(err.Error(), "Read-only") {
		n.t.Errorf("a file in the read-only root: %q, %v", out, err)
	}
}
