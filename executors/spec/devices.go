package spec

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// seesAllDevices: a privileged container has the node's /dev, and may make any device. Without it,
// it may use what it is given, as others do.
func (r *request) seesAllDevices() bool { return r.sec.Privileged && !r.Options.NoHostDevices }

// mayUseAllDevices: whoever keeps the node's devices from privileged containers does not want them
// to make their own, unless they say so.
func (r *request) mayUseAllDevices() bool {
	return r.seesAllDevices() || r.sec.Privileged && r.Options.AllowAllDevices
}

// planDevices adds the device nodes that the container sees and the rules by which
// it may use them. The runtime adds null, zero, random and their like by itself.
//
// Nobody makes devices in a user namespace. There runtimes mount the node's own on the same
// path, so that one on another path is planned as a mount.
func planDevices(r *request, plan *Plan) error {
	linux := plan.Spec.Linux
	linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: r.mayUseAllDevices(), Access: "rwm"}}
	if r.seesAllDevices() {
		if err := r.found.AllDevices.Err; err != nil {
			return fmt.Errorf("list the node's devices: %w", err)
		}
		for _, d := range r.found.AllDevices.Nodes {
			linux.Devices = appendDevice(linux.Devices, d.at("/dev"))
		}
	}
	wanted, err := r.wantedDevices()
	if err != nil {
		return err
	}
	for _, want := range wanted {
		if err := r.planDevice(plan, want); err != nil {
			return err
		}
	}
	return nil
}

// wantedDevice is a device of the node that the container gets, and who says so.
type wantedDevice struct {
	field string
	*cri.Device
}

// devicesKeys are CRI-O's names, the present one first, of the annotation by which a pod asks for
// devices that the administrator allows (Options.AllowedDevices): HOST:CONTAINER:PERMISSIONS,
// separated by commas.
func devicesKeys() []string {
	return []string{"devices.crio.io", "io.kubernetes.cri-o.Devices"}
}

// wantedDevices are the administrator's, those of the annotation, and the request's: of two at
// one place the last counts.
func (r *request) wantedDevices() ([]wantedDevice, error) {
	var all []wantedDevice
	for _, d := range r.Options.Devices {
		all = append(all, wantedDevice{"additional_devices", d})
	}
	asked, err := r.annotatedDevices()
	if err != nil {
		return nil, err
	}
	all = append(all, asked...)
	for i, d := range r.Container.Devices {
		all = append(all, wantedDevice{fmt.Sprintf("devices[%d].host_path", i), d})
	}
	return all, nil
}

func (r *request) annotatedDevices() (all []wantedDevice, err error) {
	field, text := r.Options.asked(r.Sandbox, devicesKeys()...)
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		d, err := ParseDevice(part)
		if err != nil {
			return nil, refusal.Invalid(field, part, "%v", err)
		}
		if !slices.Contains(r.Options.AllowedDevices, d.HostPath) {
			return nil, refusal.Invalid(field, part, "is not among the allowed devices of this node")
		}
		if err := refusal.CheckNoProcess(field, d.ContainerPath); err != nil {
			return nil, err
		}
		all = append(all, wantedDevice{field, d})
	}
	return all, nil
}

// ParseDevice reads HOST, HOST:PERMISSIONS, HOST:CONTAINER or HOST:CONTAINER:PERMISSIONS, as CRI-O
// and podman do. Without permissions all are given.
func ParseDevice(text string) (*cri.Device, error) {
	parts := strings.Split(text, ":")
	d := &cri.Device{HostPath: parts[0], ContainerPath: parts[0], Permissions: "rwm"}
	rest := parts[1:]
	if len(rest) > 0 && path.IsAbs(rest[0]) {
		d.ContainerPath, rest = rest[0], rest[1:]
	}
	if len(rest) > 0 {
		d.Permissions, rest = rest[0], rest[1:]
	}
	switch {
	case len(rest) > 0:
		return nil, errors.New("is not HOST:CONTAINER:PERMISSIONS")
	case !path.IsAbs(d.HostPath) || path.Clean(d.HostPath) != d.HostPath || path.Clean(d.ContainerPath) != d.ContainerPath || d.ContainerPath == "/":
		return nil, errors.New("has a path that is not absolute and clean")
	case d.Permissions == "" || strings.Trim(d.Permissions, "rwm") != "" || strings.ContainsAny(text, "\x00\n"):
		return nil, errors.New("has other permissions than r, w and m")
	}
	return d, nil
}

func (r *request) planDevice(plan *Plan, want wantedDevice) error {
	found, asked := r.found.Devices[want.HostPath]
	if found.Err != nil {
		return refusal.Invalid(want.field, want.HostPath, "can't be used: %v", found.Err)
	}
	if !asked {
		return refusal.Unanswered(want.field)
	}
	access := want.Permissions
	if access == "" {
		access = "rwm"
	}
	linux := plan.Spec.Linux
	for _, node := range found.Nodes {
		d := node.at(path.Clean(want.ContainerPath))
		if r.Options.DevicesFollowUser {
			r.giveToUser(&d)
		}
		if source := node.at(want.HostPath).Path; r.users != nil && source != d.Path {
			plan.Spec.Mounts = append(plan.Spec.Mounts, bind(source, d.Path, "rprivate", "nosuid", "noexec"))
		} else {
			linux.Devices = appendDevice(linux.Devices, d)
		}
		linux.Resources.Devices = append(linux.Resources.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: access,
		})
	}
	return nil
}

// giveToUser makes a device the container's user's, if the request names one: for those who use
// devices and are not root.
func (r *request) giveToUser(d *specs.LinuxDevice) {
	if user := r.sec.RunAsUser; user != nil {
		uid := uint32(user.Value)
		d.UID = &uid
	}
	if group := r.sec.RunAsGroup; group != nil {
		gid := uint32(group.Value)
		d.GID = &gid
	}
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
