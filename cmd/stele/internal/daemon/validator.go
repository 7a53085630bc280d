package daemon

import (
	"errors"
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/cdi"
	"github.com/stele-runtime/stele/executors/cgroups"
	"github.com/stele-runtime/stele/executors/cni"
	"github.com/stele-runtime/stele/executors/namespaces"
	"github.com/stele-runtime/stele/executors/spec"
)

// Validator refuses early what the drivers would refuse later.
type Validator struct{ Cgroups *cgroups.Manager }

// Sandbox is part of cri.Validator.
func (v Validator) Sandbox(config *runtimeapi.PodSandboxConfig) error {
	if err := spec.ValidateSandbox(config); err != nil {
		return refused("run pod sandbox", err)
	}
	if err := cgroups.ValidateParent(v.Cgroups.Driver(), config.GetLinux().GetCgroupParent()); err != nil {
		return refused("run pod sandbox", fmt.Errorf("linux.cgroup_parent: %w", err))
	}
	options := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	hostNetwork := options.GetNetwork() == runtimeapi.NamespaceMode_NODE
	hostIPC := options.GetIpc() == runtimeapi.NamespaceMode_NODE
	if err := namespaces.ValidateSysctls(config.GetLinux().GetSysctls(), hostNetwork, hostIPC); err != nil {
		return refused("run pod sandbox", err)
	}
	if _, err := cni.PodOf(config, "", ""); err != nil {
		return refused("run pod sandbox", err)
	}
	return nil
}

// Container is part of cri.Validator.
func (v Validator) Container(config *runtimeapi.ContainerConfig, pod *runtimeapi.PodSandboxConfig) error {
	if err := spec.ValidateContainer(config, pod); err != nil {
		return refused("create container", err)
	}
	var names []string
	for _, device := range config.GetCDIDevices() {
		names = append(names, device.GetName())
	}
	if _, err := cdi.Asked(names, config.GetAnnotations()); err != nil {
		return refused("create container", err)
	}
	return nil
}

// UpdateSandbox is part of cri.Validator.
func (v Validator) UpdateSandbox(change *runtimeapi.UpdatePodSandboxResourcesRequest) error {
	if err := spec.ValidateSandboxUpdate(change); err != nil {
		return refused("update pod sandbox", err)
	}
	return nil
}

// Update is part of cri.Validator.
func (v Validator) Update(config *runtimeapi.ContainerConfig, change *runtimeapi.UpdateContainerResourcesRequest) error {
	if err := spec.ValidateUpdate(config, change); err != nil {
		return refused("update container", err)
	}
	return nil
}

// refused keeps the kind of a driver's fault; any other error is an invalid argument,
// because only the request was checked.
func refused(op string, err error) error {
	kind := fault.Invalid
	if f, ok := errors.AsType[*fault.Fault](err); ok {
		kind = f.Kind
	}
	return fault.New(kind, op, "", "%v", err)
}
