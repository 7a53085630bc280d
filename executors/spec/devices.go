package spec

import (
	"fmt"
	"path"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// seesAllDevices: a privileged container has the node's /dev.
func (r *request) seesAllDevices() bool { return r.sec.Privileged && !r.Options.NoHostDevices }

// planDevices adds the device nodes that the container sees and the rules by which
// it may use them. The runtime adds null, zero, random and their like by itself.
//
// Nobody makes devices in a user namespace. There runtimes mount the node's own on the same
// path, so that one on another path is planned as a mount.
func planDevices(r *request, plan *Plan) error {
	linux := plan.Spec.Linux
	linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: r.sec.Privileged, Access: "rwm"}}
	if r.seesAllDevices() {
		if err := r.found.AllDevices.Err; err != nil {
			return fmt.Errorf("list the node's devices: %w", err)
		}
		for _, d := range r.found.AllDevices.Nodes {
			linux.Devices = appendDevice(linux.Devices, d.at("/dev"))
		}
	}
	for i, want := range r.Container.Devices {
		found, asked := r.found.Devices[want.HostPath]
		if found.Err != nil {
			return refusal.Invalid(fmt.Sprintf("devices[%d].host_path", i), want.HostPath, "can't be used: %v", found.Err)
		}
		if !asked {
			return refusal.Unanswered(fmt.Sprintf("devices[%d].host_path", i))
		}
		access := want.Permissions
		if access == "" {
			access = "rwm"
		}
		for _, node := range found.Nodes {
			d := node.at(path.Clean(want.ContainerPath))
			if source := node.at(want.HostPath).Path; r.users != nil && source != d.Path {
				plan.Spec.Mounts = append(plan.Spec.Mounts, bind(source, d.Path, "rprivate", "nosuid", "noexec"))
			} else {
				linux.Devices = appendDevice(linux.Devices, d)
			}
			linux.Resources.Devices = append(linux.Resources.Devices, specs.LinuxDeviceCgroup{
				Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: access,
			})
		}
	}
	return nil
}

// at returns the device as it is seen at or below a directory.
func (d Device) at(dir string) specs.LinuxDevice {
	d.Path = path.Join(dir, path.Clean("/"+d.Path))
	return specs.LinuxDevice(d)
}

// appendDevice replaces a node with the same path.
func appendDevice(list []specs.LinuxDevice, d specs.LinuxDevice) []specs.LinuxDevice {
	for i := range list {
		if list[i].Path == d.Path {
			list[i] = d
			return list
		}
	}
	return append(list, d)
}
