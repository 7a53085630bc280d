package cdi

import (
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
		if !qualified(name) {
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

// qualified reports whether a name is a device's. The library panics at vendors and classes of
// one letter.
func qualified(name string) bool {
	kind, _, _ := strings.Cut(name, "=")
	vendor, class, _ := strings.Cut(kind, "/")
	if len(vendor) < 2 || len(class) < 2 {
		return false
	}
	_, _, _, err := parser.ParseQualifiedName(name)
	return err == nil
}

// Inject adds devices to a container's specification, all or none. A device that no specification
// has is a fault.Precondition: its driver may yet write one.
func (d Dirs) Inject(to *specs.Spec, devices []Named) (err error) {
	if len(devices) == 0 {
		return nil
	}
	defer func() {
		// The same in a specification's kind.
		if p := recover(); p != nil {
			err = fault.New(fault.Precondition, "inject devices", devices[0].Name,
				"%s: a specification in %s cannot be read: %v", devices[0].Field, strings.Join(d, ", "), p)
		}
	}()
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
	return nil
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
