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

// The resources in force replace the configuration's whole.
func TestResourcesInForce(t *testing.T) {
	asked, err := proto.Marshal(&cri.ContainerConfig{
		WorkingDir: "/srv",
		Linux: &cri.LinuxContainerConfig{
			Resources:       &cri.LinuxContainerResources{CpuShares: 512, Unified: map[string]string{"io.weight": "7"}},
			SecurityContext: &cri.LinuxContainerSecurityContext{ReadonlyRootfs: true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	now, err := proto.Marshal(&cri.LinuxContainerResources{MemoryLimitInBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Configuration{{Container: asked, Resources: now}, {Resources: now}} {
		got, _, err := Effective(c)
		if err != nil {
			t.Fatal(err)
		}
		if want := (&cri.LinuxContainerResources{MemoryLimitInBytes: 1 << 30}); !proto.Equal(got.GetLinux().GetResources(), want) {
			t.Errorf("in force is %v, want %v", got.GetLinux().GetResources(), want)
		}
		if c.Container != nil && (got.GetWorkingDir() != "/srv" || !got.GetLinux().GetSecurityContext().GetReadonlyRootfs()) {
			t.Errorf("more than the resources was replaced: %v", got)
		}
	}
}

// The configurations come out of a log that may be damaged.
func TestEffectiveOfNoMessages(t *testing.T) {
	for _, c := range []Configuration{{Container: []byte{0xff}}, {Resources: []byte{0xff}}, {Sandbox: []byte{0xff}}} {
		if _, _, err := Effective(c); err == nil {
			t.Errorf("%v are taken for messages", c)
		}
	}
}
