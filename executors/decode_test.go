package executors

import (
	"testing"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A change of a configuration is laid over it by writing it behind: see
// container.Config. Effects and answers read the two as one message.
func TestConfigurationsAreLaidOver(t *testing.T) {
	asked, err := proto.Marshal(&runtimeapi.ContainerConfig{
		WorkingDir: "/srv",
		Linux: &runtimeapi.LinuxContainerConfig{
			Resources:       &runtimeapi.LinuxContainerResources{CpuShares: 512, MemoryLimitInBytes: 1 << 20, Unified: map[string]string{"io.weight": "7"}},
			SecurityContext: &runtimeapi.LinuxContainerSecurityContext{ReadonlyRootfs: true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	change, err := proto.Marshal(&runtimeapi.ContainerConfig{Linux: &runtimeapi.LinuxContainerConfig{
		Resources: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 1 << 30, Unified: map[string]string{"memory.high": "9"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var got runtimeapi.ContainerConfig
	if err := decode(append(asked, change...), &got); err != nil {
		t.Fatal(err)
	}
	resources := got.GetLinux().GetResources()
	if resources.GetMemoryLimitInBytes() != 1<<30 || resources.GetUnified()["memory.high"] != "9" {
		t.Errorf("the change is not in force: %v", resources)
	}
	if resources.GetCpuShares() != 512 || resources.GetUnified()["io.weight"] != "7" || got.GetWorkingDir() != "/srv" || !got.GetLinux().GetSecurityContext().GetReadonlyRootfs() {
		t.Errorf("the change took more with it than it says: %v", &got)
	}
}
