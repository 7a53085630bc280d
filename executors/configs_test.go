package executors

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/cni"
)

func TestNetworkPod(t *testing.T) {
	pod, err := NetworkPod(&runtimeapi.PodSandboxConfig{
		Metadata:  &runtimeapi.PodSandboxMetadata{Name: "web", Namespace: "default", Uid: "u"},
		DnsConfig: &runtimeapi.DNSConfig{Servers: []string{"10.0.0.10"}, Searches: []string{"svc"}, Options: []string{"ndots:5"}},
		PortMappings: []*runtimeapi.PortMapping{
			{ContainerPort: 80}, // maps nothing
			{ContainerPort: 80, HostPort: 8080, HostIp: "127.0.0.1"},
			{ContainerPort: 53, HostPort: 53, Protocol: runtimeapi.Protocol_UDP},
			{ContainerPort: 7, HostPort: 7, Protocol: runtimeapi.Protocol_SCTP},
		},
		Linux: &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/pods"},
	}, "id", "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	want := cni.Pod{
		ID: "id", Name: "web", Namespace: "default", UID: "u", NetNS: "/ns/net", CgroupParent: "/pods",
		DNS: cni.DNS{Servers: []string{"10.0.0.10"}, Searches: []string{"svc"}, Options: []string{"ndots:5"}},
		PortMappings: []cni.PortMapping{
			{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", HostIP: "127.0.0.1"},
			{HostPort: 53, ContainerPort: 53, Protocol: "udp"}, {HostPort: 7, ContainerPort: 7, Protocol: "sctp"},
		},
	}
	if !reflect.DeepEqual(pod, want) {
		t.Errorf("plugins are told %+v, want %+v", pod, want)
	}
	if _, err := NetworkPod(&runtimeapi.PodSandboxConfig{Annotations: map[string]string{"kubernetes.io/ingress-bandwidth": "much"}}, "id", ""); err == nil {
		t.Error("a bandwidth that is none is accepted")
	}
}

// A container has its pod's network and IPC namespaces whatever it says, and its
// pod's choice of PID namespace if it says nothing.
func TestFollowPod(t *testing.T) {
	const node, pod, own = runtimeapi.NamespaceMode_NODE, runtimeapi.NamespaceMode_POD, runtimeapi.NamespaceMode_CONTAINER
	options := func(network, pid, ipc runtimeapi.NamespaceMode) *runtimeapi.NamespaceOption {
		return &runtimeapi.NamespaceOption{Network: network, Pid: pid, Ipc: ipc}
	}
	with := func(o *runtimeapi.NamespaceOption) *runtimeapi.ContainerConfig {
		return &runtimeapi.ContainerConfig{Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: o}}}
	}
	for name, c := range map[string]struct {
		config            *runtimeapi.ContainerConfig
		network, pid, ipc runtimeapi.NamespaceMode
	}{
		"says nothing at all":    {&runtimeapi.ContainerConfig{}, node, own, pod},
		"says nothing of these":  {with(nil), node, own, pod},
		"wants others":           {with(options(pod, node, node)), node, node, pod},
		"says the same":          {with(options(node, own, pod)), node, own, pod},
		"has no security at all": {&runtimeapi.ContainerConfig{Linux: &runtimeapi.LinuxContainerConfig{}}, node, own, pod},
	} {
		followPod(c.config, &runtimeapi.PodSandboxConfig{Linux: &runtimeapi.LinuxPodSandboxConfig{
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: options(node, own, pod)},
		}})
		got := c.config.GetLinux().GetSecurityContext().GetNamespaceOptions()
		if got.GetNetwork() != c.network || got.GetPid() != c.pid || got.GetIpc() != c.ipc {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestResolveLog(t *testing.T) {
	root := t.TempDir()
	logs, link, file := filepath.Join(root, "logs"), filepath.Join(root, "link"), filepath.Join(root, "file")
	for _, err := range []error{os.Mkdir(logs, 0o755), os.Symlink(logs, link), os.WriteFile(file, nil, 0o644), os.WriteFile(filepath.Join(logs, "plain"), nil, 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct{ path, directory, want string }{
		"no log":              {"", "", ""},
		"as it is":            {logs + "/0.log", logs, logs + "/0.log"},
		"through a link":      {link + "/web/0.log", link, logs + "/web/0.log"},
		"missing directories": {root + "/none/web/0.log", root + "/none", root + "/none/web/0.log"},
	} {
		if got, err := resolveLog(c.path, c.directory); err != nil || got != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, c := range map[string]struct{ path, directory string }{
		"the directory is a file":      {file + "/0.log", file},
		"a directory below is a file":  {logs + "/plain/0.log", logs},
		"a file on the way":            {file + "/logs/0.log", file + "/logs"},
		"the directory is not a place": {logs + "/0.log", "relative"},
	} {
		if got, err := resolveLog(c.path, c.directory); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// Messages come out of a log that may be damaged.
func TestDecode(t *testing.T) {
	if err := decode([]byte{0xff}, &runtimeapi.PodSandboxConfig{}); err == nil {
		t.Error("what is no message was decoded")
	}
}
