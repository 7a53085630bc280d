package spec

import (
	"testing"

	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A container has its pod's network and IPC namespaces whatever it says, and its
// pod's choice of PID namespace if it says nothing.
func TestFollowPod(t *testing.T) {
	const node, pod, own = cri.NamespaceMode_NODE, cri.NamespaceMode_POD, cri.NamespaceMode_CONTAINER
	options := func(network, pid, ipc cri.NamespaceMode) *cri.NamespaceOption {
		return &cri.NamespaceOption{Network: network, Pid: pid, Ipc: ipc}
	}
	with := func(o *cri.NamespaceOption) *cri.ContainerConfig {
		return &cri.ContainerConfig{Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: o}}}
	}
	for name, c := range map[string]struct {
		config            *cri.ContainerConfig
		network, pid, ipc cri.NamespaceMode
	}{
		"says nothing at all":    {&cri.ContainerConfig{}, node, own, pod},
		"says nothing of these":  {with(nil), node, own, pod},
		"wants others":           {with(options(pod, node, node)), node, node, pod},
		"says the same":          {with(options(node, own, pod)), node, own, pod},
		"has no security at all": {&cri.ContainerConfig{Linux: &cri.LinuxContainerConfig{}}, node, own, pod},
	} {
		followPod(c.config, &cri.PodSandboxConfig{Linux: &cri.LinuxPodSandboxConfig{
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: options(node, own, pod)},
		}})
		got := c.config.GetLinux().GetSecurityContext().GetNamespaceOptions()
		if got.GetNetwork() != c.network || got.GetPid() != c.pid || got.GetIpc() != c.ipc {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A change of a configuration is laid over it by writing it behind: see
// container.Config. Effects and answers read the two as one message.
func TestConfigurationsAreLaidOver(t *testing.T) {
	asked, err := proto.Marshal(&cri.ContainerConfig{
		WorkingDir: "/srv",
		Linux: &cri.LinuxContainerConfig{
			Resources:       &cri.LinuxContainerResources{CpuShares: 512, MemoryLimitInBytes: 1 << 20, Unified: map[string]string{"io.weight": "7"}},
			SecurityContext: &cri.LinuxContainerSecurityContext{ReadonlyRootfs: true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	change, err := proto.Marshal(&cri.ContainerConfig{Linux: &cri.LinuxContainerConfig{
		Resources: &cri.LinuxContainerResources{MemoryLimitInBytes: 1 << 30, Unified: map[string]string{"memory.high": "9"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := Effective(append(asked, change...), nil)
	if err != nil {
		t.Fatal(err)
	}
	resources := got.GetLinux().GetResources()
	if resources.GetMemoryLimitInBytes() != 1<<30 || resources.GetUnified()["memory.high"] != "9" {
		t.Errorf("the change is not in force: %v", resources)
	}
	if resources.GetCpuShares() != 512 || resources.GetUnified()["io.weight"] != "7" || got.GetWorkingDir() != "/srv" || !got.GetLinux().GetSecurityContext().GetReadonlyRootfs() {
		t.Errorf("the change took more with it than it says: %v", got)
	}
}

// The configurations come out of a log that may be damaged.
func TestEffectiveOfNoMessages(t *testing.T) {
	for _, c := range [][2][]byte{{{0xff}, nil}, {nil, {0xff}}} {
		if _, _, err := Effective(c[0], c[1]); err == nil {
			t.Errorf("%v are taken for messages", c)
		}
	}
}
