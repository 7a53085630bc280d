package confine

import (
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// DefaultCapabilities returns what a container may do unless it asks otherwise.
func DefaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_KILL",
	}
}

const fieldCapabilities = "linux.security_context.capabilities"

// Capabilities sets what the process may do. Its inheritable and ambient sets
// are empty (CVE-2022-24769, CVE-2022-27652), but for what add_ambient_capabilities
// names, and unless the administrator wants them inheritable. A node can't grant what it
// lacks: defaults and ALL grant what it has, any other name is refused.
func (r *Request) Capabilities(process *specs.Process) error {
	has := r.Node.Capabilities
	if r.Security.Privileged {
		setCapabilities(process, slices.Clone(has), nil)
		return nil
	}
	defaults := r.Options.Capabilities
	if defaults == nil {
		defaults = DefaultCapabilities()
	}
	want := r.Security.GetCapabilities()
	granted := intersect(defaults, has)
	if containsAll(want.GetAddCapabilities()) {
		granted = slices.Clone(has)
	}
	if containsAll(want.GetDropCapabilities()) {
		granted = nil
	}
	add, err := named(fieldCapabilities+".add_capabilities", want.GetAddCapabilities(), has)
	if err != nil {
		return err
	}
	ambient, err := named(fieldCapabilities+".add_ambient_capabilities", want.GetAddAmbientCapabilities(), has)
	if err != nil {
		return err
	}
	if containsAll(want.GetAddAmbientCapabilities()) {
		ambient = slices.Clone(has)
	}
	dropped := func(c string) bool {
		return slices.ContainsFunc(want.GetDropCapabilities(), func(d string) bool { return CapabilityName(d) == c })
	}
	granted = slices.DeleteFunc(slices.Concat(granted, add, ambient), dropped)
	ambient = slices.DeleteFunc(ambient, dropped)
	setCapabilities(process, granted, ambient)
	if r.Options.InheritableCapabilities {
		process.Capabilities.Inheritable = process.Capabilities.Permitted
	}
	return nil
}

func setCapabilities(process *specs.Process, granted, ambient []string) {
	granted, ambient = sortedSet(granted), sortedSet(ambient)
	process.Capabilities = &specs.LinuxCapabilities{
		Bounding:    granted,
		Effective:   granted,
		Permitted:   granted,
		Inheritable: ambient,
		Ambient:     ambient,
	}
}

// named returns the capabilities in names other than ALL, in their full form.
func named(field string, names, has []string) ([]string, error) {
	var out []string
	for _, name := range names {
		c := CapabilityName(name)
		if c == "ALL" {
			continue
		}
		if !slices.Contains(has, c) {
			return nil, refusal.Unsupported(field, name, "is a capability that the runtime doesn't have itself on this node")
		}
		out = append(out, c)
	}
	return out, nil
}

// CapabilityName returns the kernel's name of a capability, or ALL.
func CapabilityName(name string) string {
	name = strings.ToUpper(name)
	if name == "ALL" || name == "CAP_ALL" {
		return "ALL"
	}
	if !strings.HasPrefix(name, "CAP_") {
		name = "CAP_" + name
	}
	return name
}

// KnownCapabilities lists what there is, whether or not this kernel has it.
func KnownCapabilities() []string {
	var names []string
	for _, c := range capability.ListKnown() {
		names = append(names, CapabilityName(c.String()))
	}
	return names
}

func containsAll(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return CapabilityName(n) == "ALL" })
}

func intersect(names, has []string) []string {
	var out []string
	for _, name := range names {
		if c := CapabilityName(name); slices.Contains(has, c) {
			out = append(out, c)
		}
	}
	return out
}

func sortedSet(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

func checkCapabilities(c *cri.Capability) error {
	known := KnownCapabilities()
	for _, list := range []struct {
		field string
		names []string
	}{
		{".add_capabilities", c.GetAddCapabilities()},
		{".drop_capabilities", c.GetDropCapabilities()},
		{".add_ambient_capabilities", c.GetAddAmbientCapabilities()},
	} {
		for _, name := range list.names {
			if full := CapabilityName(name); full != "ALL" && !slices.Contains(known, full) {
				return refusal.Invalid(fieldCapabilities+list.field, name, "is not a capability")
			}
		}
	}
	return nil
}
