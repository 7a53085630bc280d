package spec

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Configuration is what a container is configured with, as the log has it.
type Configuration struct {
	// Container is the CRI's ContainerConfig, Resources are the LinuxContainerResources
	// that replace its own unless they are empty: see the function Config of package
	// container. Sandbox is the PodSandboxConfig.
	Container, Resources, Sandbox []byte
}

// Effective returns the configurations that a container is planned from: it decodes
// those in force and adds what the container takes from its pod. Whatever acts on a
// container's configuration takes it from here.
func Effective(c Configuration) (*cri.ContainerConfig, *cri.PodSandboxConfig, error) {
	config, pod := &cri.ContainerConfig{}, &cri.PodSandboxConfig{}
	if err := proto.Unmarshal(c.Container, config); err != nil {
		return nil, nil, fmt.Errorf("decode the ContainerConfig of the request: %w", err)
	}
	if err := proto.Unmarshal(c.Sandbox, pod); err != nil {
		return nil, nil, fmt.Errorf("decode the PodSandboxConfig of the request: %w", err)
	}
	followPod(config, pod)
	if len(c.Resources) == 0 {
		return config, pod, nil
	}
	config.Linux.Resources = &cri.LinuxContainerResources{}
	if err := proto.Unmarshal(c.Resources, config.GetLinux().GetResources()); err != nil {
		return nil, nil, fmt.Errorf("decode the LinuxContainerResources in force: %w", err)
	}
	return config, pod, nil
}

// followPod gives a container its pod's namespaces: network and IPC always, as the
// CRI demands, and PID too if the container says nothing, as callers other than the
// kubelet do.
func followPod(config *cri.ContainerConfig, pod *cri.PodSandboxConfig) {
	if config.GetLinux() == nil {
		config.Linux = &cri.LinuxContainerConfig{}
	}
	if config.GetLinux().GetSecurityContext() == nil {
		config.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{}
	}
	security, ofPod := config.GetLinux().GetSecurityContext(), pod.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if security.GetNamespaceOptions() == nil {
		security.NamespaceOptions = &cri.NamespaceOption{Pid: ofPod.GetPid()}
	}
	security.NamespaceOptions.Network = ofPod.GetNetwork()
	security.NamespaceOptions.Ipc = ofPod.GetIpc()
}
