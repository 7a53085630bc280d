package executors

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/executors/cni"
	"github.com/stele-runtime/stele/executors/namespaces"
	"github.com/stele-runtime/stele/executors/oci"
	"github.com/stele-runtime/stele/executors/podfiles"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/spec/confine"
	"github.com/stele-runtime/stele/executors/spec/userns"
)

// pods carry out the effects on pods.
type pods struct{ *Config }

// prepare makes what the pod's containers share: pinned namespaces, with the pod's
// sysctls, the files of /etc and /dev/shm.
func (x pods) prepare(ctx context.Context, pod sandbox.Pod) error {
	config := &runtimeapi.PodSandboxConfig{}
	if err := decode(pod.Config, config); err != nil {
		return err
	}
	if err := x.suits(pod, config); err != nil {
		return err
	}
	if err := os.MkdirAll(x.sandboxDir(pod.ID), 0o700); err != nil {
		return fmt.Errorf("make the sandbox's directory: %w", err)
	}
	label := confine.PodMountLabel(&x.Host.Node, config)
	if err := checkLabel("prepare sandbox", string(pod.ID), label); err != nil {
		return err
	}
	ipcOfNode, users := ipcOfNode(config), userns.Of(config)
	err := namespaces.Pin(ctx, namespaces.Request{
		Dir:     x.namespacesDir(pod.ID),
		Network: !pod.HostNetwork,
		IPC:     !ipcOfNode,
		// A pod on the node's network has the node's name.
		UTS:      !pod.HostNetwork,
		Hostname: config.GetHostname(),
		Sysctls:  config.GetLinux().GetSysctls(),
		Users:    (*namespaces.Users)(users),
		Pause:    []string{x.MonitorBinary, "pause"},
	})
	if err != nil {
		return err
	}
	uid, gid := users.Root()
	owner := podfiles.Owner{UID: uid, GID: gid, Label: label}
	if err := podfiles.Write(x.sandboxDir(pod.ID), config, owner); err != nil {
		return err
	}
	if !ipcOfNode {
		handler, err := x.Handlers.Find(pod.Handler)
		if err != nil {
			return err
		}
		size, err := handler.Options.SizeOfShm(config)
		if err != nil {
			return err
		}
		if err := podfiles.MountShm(podfiles.In(x.sandboxDir(pod.ID)).Shm, size, owner); err != nil {
			return err
		}
	}
	if !pod.HostNetwork {
		return nil // NRI plug-ins are told once its network is there
	}
	return x.NRI.RunPod(ctx, string(pod.ID), nil, x.nriPod(pod))
}

// suits refuses a pod that wants what its runtime would ignore, or in whose cgroup no container
// could start.
func (x pods) suits(pod sandbox.Pod, config *runtimeapi.PodSandboxConfig) error {
	if err := x.hasRoom(pod, config); err != nil {
		return err
	}
	field := ""
	if key := namespaces.OfIPC(config.GetLinux().GetSysctls()); key != "" {
		field = fmt.Sprintf("linux.sysctls[%q]", key)
	}
	options := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if options.GetIpc() == runtimeapi.NamespaceMode_NODE {
		field = "linux.security_context.namespace_options.ipc"
	}
	if options.GetPid() != runtimeapi.NamespaceMode_CONTAINER {
		field = "linux.security_context.namespace_options.pid"
	}
	if userns.Of(config) != nil {
		field = "linux.security_context.namespace_options.userns_options"
	}
	if field == "" {
		return nil
	}
	runtime, err := x.runtime(pod.Handler)
	if err != nil || !runtime.OwnKernel() {
		return err
	}
	return fault.New(fault.Unsupported, "run pod sandbox", string(pod.ID),
		"%s: has no effect with the handler %s, whose runtime runs each container on a kernel of its own", field, pod.Handler)
}

// hasRoom refuses a pod whose cgroup allows less memory than its runtime takes: the kernel would
// kill that, and the reason would be hard to find.
func (x pods) hasRoom(pod sandbox.Pod, config *runtimeapi.PodSandboxConfig) error {
	parent := config.GetLinux().GetCgroupParent()
	limit, err := x.Cgroups.PodMemoryLimit(parent)
	if err != nil || limit == 0 {
		return err
	}
	handler, err := x.Handlers.Find(pod.Handler)
	if err != nil {
		return err
	}
	runtime, err := x.runtime(pod.Handler)
	if err != nil {
		return err
	}
	if least := x.options(handler, runtime).MinMemory; limit < least {
		return fault.New(fault.Invalid, "run pod sandbox", string(pod.ID),
			"linux.cgroup_parent: %q has a memory limit of %d bytes, which is too low for this runtime: it takes %d", parent, limit, least)
	}
	return nil
}

func ipcOfNode(config *runtimeapi.PodSandboxConfig) bool {
	return config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetIpc() == runtimeapi.NamespaceMode_NODE
}

// namespacePaths names the pod's namespaces, but for those that it shares with the
// node. The PID namespace is not among them.
func (c *Config) namespacePaths(pod sandbox.Pod, config *runtimeapi.PodSandboxConfig) spec.Namespaces {
	var paths spec.Namespaces
	dir := c.namespacesDir(pod.ID)
	if !pod.HostNetwork {
		paths.Net = c.NetworkPin(pod.ID)
		paths.UTS = filepath.Join(dir, "uts")
	}
	if !ipcOfNode(config) {
		paths.IPC = filepath.Join(dir, "ipc")
	}
	if userns.Of(config) != nil {
		paths.User = filepath.Join(dir, "user")
	}
	return paths
}

func (x pods) attach(ctx context.Context, pod sandbox.Pod) sandbox.AttachNetworkDone {
	config := &runtimeapi.PodSandboxConfig{}
	if err := decode(pod.Config, config); err != nil {
		return sandbox.AttachNetworkDone{Err: err}
	}
	attachment, err := x.network(pod)
	if err != nil {
		return sandbox.AttachNetworkDone{Err: err}
	}
	attached, err := x.Network.Attach(ctx, attachment)
	if err != nil {
		return sandbox.AttachNetworkDone{Err: err}
	}
	if err := namespaces.WriteInterfaceSysctls(ctx, x.namespacesDir(pod.ID), config.GetLinux().GetSysctls()); err != nil {
		return sandbox.AttachNetworkDone{Err: err}
	}
	done := sandbox.AttachNetworkDone{Result: attached.Result, Unserved: unservedRates(attachment, attached)}
	var unmapped []string
	if done.MappedPorts, unmapped, err = x.mapPorts(ctx, attachment, attached); err != nil {
		return sandbox.AttachNetworkDone{Err: err}
	}
	done.Unserved = append(done.Unserved, unmapped...)
	for _, ip := range attached.IPs {
		done.IPs = append(done.IPs, ip.String())
	}
	if err := x.NRI.RunPod(ctx, string(pod.ID), done.IPs, x.nriPod(pod)); err != nil {
		return sandbox.AttachNetworkDone{Err: err}
	}
	return done
}

// detach unmaps ports first, since another pod may want them while a plugin hangs; neither
// step waits for the other's success.
func (x pods) detach(ctx context.Context, pod sandbox.Pod) error {
	unmapped := x.unmapPorts(ctx, pod)
	// NRI plug-ins may still want to look at the network.
	x.NRI.StopPod(ctx, string(pod.ID), x.nriPod(pod))
	attachment, err := x.network(pod)
	if err == nil {
		err = x.Network.Detach(ctx, attachment)
	}
	return errors.Join(unmapped, err)
}

// network returns what CNI plugins get to know of a pod.
func (x pods) network(pod sandbox.Pod) (cni.Pod, error) {
	config := &runtimeapi.PodSandboxConfig{}
	if err := decode(pod.Config, config); err != nil {
		return cni.Pod{}, err
	}
	return cni.PodOf(config, string(pod.ID), x.NetworkPin(pod.ID))
}

// holder names the holder to its runtime: it has the sandbox's id.
func (x pods) holder(pod sandbox.Pod) oci.Container {
	return oci.Container{
		ID: string(pod.ID), Bundle: filepath.Join(x.sandboxDir(pod.ID), "holder"),
		CgroupsPath: x.cgroupsPath(pod.Config, string(pod.ID), string(pod.ID)),
	}
}

// startHolder starts the init of the pod's shared PID namespace.
func (x pods) startHolder(ctx context.Context, pod sandbox.Pod) (pid int, err error) {
	config := &runtimeapi.PodSandboxConfig{}
	if err := decode(pod.Config, config); err != nil {
		return 0, err
	}
	runtime, err := x.runtime(pod.Handler)
	if err != nil {
		return 0, err
	}
	x.Cgroups.Warm()
	cgroup, err := x.Cgroups.ContainerPath(config.GetLinux().GetCgroupParent(), string(pod.ID), string(pod.ID))
	if err != nil {
		return 0, err
	}
	rootfs, err := x.holderRoot(pod, userns.Of(config))
	if err != nil {
		return 0, err
	}
	holderSpec, err := spec.Holder(spec.HolderInput{
		SandboxID: string(pod.ID), Sandbox: config, Rootfs: rootfs, Binary: x.MonitorBinary,
		Namespaces: x.namespacePaths(pod, config), CgroupsPath: cgroup, Host: x.Host,
	})
	if err != nil {
		return 0, err
	}
	process, err := runtime.Create(ctx, oci.Bundle{
		ID: string(pod.ID), Dir: x.holder(pod).Bundle, Spec: holderSpec,
	})
	if err != nil {
		return 0, err
	}
	if _, err := runtime.Start(ctx, x.holder(pod)); err != nil {
		return 0, err
	}
	return process.PID, nil
}

// holderRoot makes the holder's root directory, which is empty.
func (x pods) holderRoot(pod sandbox.Pod, users *userns.Mapping) (string, error) {
	if users == nil {
		rootfs := filepath.Join(x.holder(pod).Bundle, "rootfs")
		if err := os.MkdirAll(rootfs, 0o755); err != nil {
			return "", fmt.Errorf("make the holder's root: %w", err)
		}
		return rootfs, nil
	}
	place := x.place(string(pod.ID))
	uid, gid := users.Root()
	if err := place.Make(uid, gid); err != nil {
		return "", err
	}
	if err := os.Chown(place.Root(), int(uid), int(gid)); err != nil {
		return "", fmt.Errorf("make the holder's root: %w", err)
	}
	return place.Root(), nil
}

// removeHolderRoot also removes the mountpoints that the runtime has made in it.
func (x pods) removeHolderRoot(pod sandbox.Pod) error {
	if err := os.RemoveAll(x.place(string(pod.ID)).Root()); err != nil {
		return fmt.Errorf("remove the holder's root: %w", err)
	}
	return x.place(string(pod.ID)).Remove()
}

func (x pods) stopHolder(ctx context.Context, pod sandbox.Pod) error {
	runtime, err := x.runtime(pod.Handler)
	if err != nil {
		return err
	}
	if err := runtime.Delete(ctx, x.holder(pod)); err != nil {
		return err
	}
	return x.Monitor.Forget(ctx, string(pod.ID))
}

// release undoes prepare, from the inside out.
func (x pods) release(ctx context.Context, pod sandbox.Pod) error {
	config := &runtimeapi.PodSandboxConfig{}
	if err := decode(pod.Config, config); err != nil {
		return err
	}
	if err := x.removeHolderRoot(pod); err != nil {
		return err
	}
	if err := podfiles.Unmount(x.sandboxDir(pod.ID)); err != nil {
		return err
	}
	if err := namespaces.Unpin(ctx, x.namespacesDir(pod.ID)); err != nil {
		return err
	}
	if err := x.Cgroups.RemoveSandbox(ctx, config.GetLinux().GetCgroupParent(), string(pod.ID)); err != nil {
		return err
	}
	if err := os.RemoveAll(x.sandboxDir(pod.ID)); err != nil {
		return fmt.Errorf("remove the sandbox's directory: %w", err)
	}
	x.NRI.RemovePod(ctx, string(pod.ID), x.nriPod(pod))
	return nil
}
