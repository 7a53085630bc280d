package executors

import (
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// Namespaces returns where a sandbox's own namespaces are pinned, by their names in the OCI
// spec. Those that it shares with the node are not among them.
func (x *Executor) Namespaces(s sandbox.State) map[string]string {
	config := &runtimeapi.PodSandboxConfig{}
	if !s.Prepared || s.Released || decode(s.Config, config) != nil {
		return nil
	}
	all := map[string]string{}
	paths := x.namespacePaths(sandbox.Pod{ID: s.ID, HostNetwork: s.HostNetwork}, config)
	for name, path := range map[string]string{"user": paths.User, "network": paths.Net, "ipc": paths.IPC, "uts": paths.UTS} {
		if path != "" {
			all[name] = path
		}
	}
	if s.Holder.PID != 0 && !s.Holder.Exited && !s.Holder.Stopped {
		all["pid"] = fmt.Sprintf("/proc/%d/ns/pid", s.Holder.PID)
	}
	return all
}

// SandboxCgroup returns where the cgroup of a pod is below the hierarchies' mountpoints;
// empty if it has none of its own.
func (x *Executor) SandboxCgroup(s sandbox.State) string {
	config := &runtimeapi.PodSandboxConfig{}
	if decode(s.Config, config) != nil {
		return ""
	}
	cgroup, err := x.Cgroups.SandboxCgroup(config.GetLinux().GetCgroupParent(), string(s.ID))
	if err != nil {
		return ""
	}
	return cgroup
}

// ContainerCgroup returns where the cgroup of a container is below the hierarchies'
// mountpoints; empty if what is known of its pod does not say.
func (x *Executor) ContainerCgroup(s container.State) string {
	config := &runtimeapi.PodSandboxConfig{}
	if decode(s.Request.SandboxConfig, config) != nil {
		return ""
	}
	cgroup, err := x.Cgroups.ContainerCgroup(config.GetLinux().GetCgroupParent(), string(s.Sandbox), string(s.ID))
	if err != nil {
		return ""
	}
	return cgroup
}
