package spec

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
)

// planNamespaces joins the pod's namespaces by their pinned paths and makes the
// container's own. Sysctls and the host name belong to those who make a
// namespace: a runtime that joins one must set neither.
func planNamespaces(r *request, plan *Plan) error {
	opts := r.sec.GetNamespaceOptions()
	if opts == nil {
		opts = r.Sandbox.GetLinux().GetSecurityContext().GetNamespaceOptions()
	}
	paths := r.Namespaces
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	if r.users != nil {
		if paths.User == "" {
			return fault.New(fault.Internal, "join namespace", "user", "the pod has a user namespace, but there is no path to join")
		}
		list = append(list, specs.LinuxNamespace{Type: specs.UserNamespace, Path: paths.User})
		plan.Spec.Linux.UIDMappings, plan.Spec.Linux.GIDMappings = r.users.UIDs, r.users.GIDs
	}
	for _, ns := range []struct {
		kind specs.LinuxNamespaceType
		mode cri.NamespaceMode
		path string
	}{
		{specs.NetworkNamespace, opts.GetNetwork(), paths.Net},
		{specs.IPCNamespace, opts.GetIpc(), paths.IPC},
		{specs.PIDNamespace, opts.GetPid(), paths.PID},
	} {
		switch ns.mode {
		case cri.NamespaceMode_NODE:
		case cri.NamespaceMode_CONTAINER:
			list = append(list, specs.LinuxNamespace{Type: ns.kind})
		default:
			if ns.path == "" {
				return fault.New(fault.Internal, "join namespace", string(ns.kind), "the mode is %s, but there is no path to join", ns.mode)
			}
			list = append(list, specs.LinuxNamespace{Type: ns.kind, Path: ns.path})
		}
	}
	if paths.UTS != "" {
		list = append(list, specs.LinuxNamespace{Type: specs.UTSNamespace, Path: paths.UTS})
	}
	// On v1 a container sees its own cgroups alone, because the runtime mounts
	// nothing else; on v2 it takes a namespace. A privileged container sees all.
	if r.Host.CgroupV2 && !r.sec.Privileged {
		list = append(list, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	plan.Spec.Linux.Namespaces = list
	return nil
}

// ipcMode is whose IPC namespace, and so whose /dev/shm, the container has.
func (r *request) ipcMode() cri.NamespaceMode {
	if opts := r.sec.GetNamespaceOptions(); opts != nil {
		return opts.Ipc
	}
	return r.Sandbox.GetLinux().GetSecurityContext().GetNamespaceOptions().GetIpc()
}
