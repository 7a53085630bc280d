package cdi

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// Dirs are directories of specifications. A device in a later one hides that of its name in an
// earlier one; one that is missing is empty.
type Dirs []string

// DefaultDirs are those of the interface: the administrator's and the vendors' generated ones.
func DefaultDirs() Dirs { return Dirs{cdi.DefaultStaticDir, cdi.DefaultDynamicDir} }

// Named is a device that is asked for, and the field that does.
type Named struct{ Field, Name string }

// Asked returns the devices that a request's field and annotations name, each once. The error
// names the field of a name that is none.
func Asked(fields []string, annotations map[string]string) ([]Named, error) {
	var all []Named
	add := func(field, name string) error {
		if !parser.IsQualifiedName(name) {
			return refusal.Invalid(field, name, "is not VENDOR/CLASS=DEVICE")
		}
		if !slices.ContainsFunc(all, func(n Named) bool { return n.Name == name }) {
			all = append(all, Named{field, name})
		}
		return nil
	}
	for i, name := range fields {
		if err := add(fmt.Sprintf("CDI_devices[%d].name", i), name); err != nil {
			return nil, err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if !strings.HasPrefix(key, cdi.AnnotationPrefix) {
			continue
		}
		for name := range strings.SplitSeq(annotations[key], ",") {
			if err := add("annotations["+key+"]", name); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// Inject adds devices to a container's specification, all or none. A device that no specification
// has is a fault.Precondition: its driver may yet write one.
func (d Dirs) Inject(to *specs.Spec, devices []Named) error {
	if len(devices) == 0 {
		return nil
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(d...), cdi.WithAutoRefresh(false))
	if err != nil {
		return fmt.Errorf("read CDI specifications: %w", err)
	}
	var names []string
	for _, device := range devices {
		names = append(names, device.Name)
		if cache.GetDevice(device.Name) == nil {
			return fault.New(fault.Precondition, "inject device", device.Name,
				"%s: no specification in %s has it%s", device.Field, strings.Join(d, ", "), broken(cache))
		}
	}
	if _, err := cache.InjectDevices(to, names...); err != nil {
		return fault.New(fault.Precondition, "inject devices", strings.Join(names, ", "), "%s: %v", devices[0].Field, err)
	}
	mountMoved(to, cache, names)
	return nil
}

// mountMoved makes mounts of devices that are on another path than on the node, if the container has
// a user namespace: nobody makes devices there, and runtimes mount what is on the same path.
func mountMoved(to *specs.Spec, cache *cdi.Cache, names []string) {
	if to.Linux == nil || !slices.ContainsFunc(to.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace }) {
		return
	}
	// As the library applies them: a specification's once, a device's after it, the last counts.
	source := map[string]string{}
	applied := map[*cdi.Spec]bool{}
	for _, name := range names {
		device := cache.GetDevice(name)
		nodes := device.ContainerEdits.DeviceNodes
		if of := device.GetSpec(); !applied[of] {
			applied[of] = true
			nodes = slices.Concat(of.ContainerEdits.DeviceNodes, nodes)
		}
		for _, node := range nodes {
			source[node.Path] = cmp.Or(node.HostPath, node.Path)
		}
	}
	to.Linux.Devices = slices.DeleteFunc(to.Linux.Devices, func(d specs.LinuxDevice) bool {
		from, ours := source[d.Path]
		if !ours || from == d.Path {
			return false
		}
		to.Mounts = append(to.Mounts, specs.Mount{
			Destination: d.Path, Type: "bind", Source: from, Options: []string{"rbind", "rprivate", "nosuid", "noexec"},
		})
		return true
	})
}

// broken names the specifications that cannot be read: the device may be in one.
func broken(cache *cdi.Cache) string {
	var all []string
	for path, problems := range cache.GetErrors() {
		for _, problem := range problems {
			all = append(all, fmt.Sprintf("%s: %v", path, problem))
		}
	}
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return "; cannot be read: " + strings.Join(all[:min(len(all), 3)], "; ")
}
