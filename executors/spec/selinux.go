package spec

import (
	"path"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// labelOptions are the options of the SELinux labels that the container, or else
// the pod, asks for. A privileged container has no labels, nor has one on a node
// without SELinux.
func (r *request) labelOptions() []string {
	options := r.sec.SelinuxOptions
	if options == nil {
		options = r.Sandbox.GetLinux().GetSecurityContext().GetSelinuxOptions()
	}
	if !r.Host.SELinux || r.sec.Privileged || options == nil {
		return nil
	}
	// Not nil, even without options: the node's defaults are asked for.
	out := []string{}
	for _, part := range []struct{ name, value string }{
		{"user", options.User}, {"role", options.Role}, {"type", options.Type}, {"level", options.Level},
	} {
		if part.value != "" {
			out = append(out, part.name+":"+part.value)
		}
	}
	return out
}

func planLabels(r *request, plan *Plan) error {
	if r.labelOptions() == nil {
		return nil
	}
	if err := r.found.SELinux.Err; err != nil {
		return refusal.Invalid("linux.security_context.selinux_options", nil, "can't be used: %v", err)
	}
	plan.Spec.Process.SelinuxLabel, plan.Spec.Linux.MountLabel = r.found.SELinux.Process, r.found.SELinux.Mount
	return nil
}

// planRelabel has a volume given the container's label. What belongs to this
// runtime, or holds it, is never relabelled: a host path would hand it to the
// container (CVE-2021-43816).
func planRelabel(r *request, plan *Plan, field, source string) error {
	for _, own := range r.Options.OwnDirs {
		own = path.Clean(own)
		if covers(own, source) || covers(source, own) {
			return refusal.Invalid(field+".selinux_relabel", source, "is refused: the path belongs to the runtime")
		}
	}
	if label := plan.Spec.Linux.MountLabel; r.Host.SELinux && label != "" {
		plan.Steps = append(plan.Steps, Relabel{Path: source, Label: label})
	}
	return nil
}
