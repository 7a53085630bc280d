package confine

import (
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// labelOptions are the options of the SELinux labels that the container, or else
// the pod, asks for. A privileged container has no labels, nor has one on a node
// without SELinux.
func (r *Request) labelOptions() []string {
	options := r.Security.SelinuxOptions
	if options == nil {
		options = r.Sandbox.GetLinux().GetSecurityContext().GetSelinuxOptions()
	}
	if !r.Node.SELinux || r.Security.Privileged || options == nil {
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

// SELinux sets the labels of the process and of its files.
func (r *Request) SELinux(spec *specs.Spec) error {
	if r.labelOptions() == nil {
		return nil
	}
	if err := r.Found.SELinux.Err; err != nil {
		return refusal.Invalid("linux.security_context.selinux_options", nil, "can't be used: %v", err)
	}
	spec.Process.SelinuxLabel, spec.Linux.MountLabel = r.Found.SELinux.Process, r.Found.SELinux.Mount
	return nil
}

// Relabel returns the label that a volume is to be given; empty for none. What belongs to this
// runtime, or holds it, is never relabelled: a host path would hand it to the
// container (CVE-2021-43816).
func (r *Request) Relabel(spec *specs.Spec, field, source string) (label string, err error) {
	for _, own := range r.Options.OwnDirs {
		own = path.Clean(own)
		if covers(own, source) || covers(source, own) {
			return "", refusal.Invalid(field+".selinux_relabel", source, "is refused: the path belongs to the runtime")
		}
	}
	if !r.Node.SELinux {
		return "", nil
	}
	return spec.Linux.MountLabel, nil
}

// CheckSELinux refuses labels that can't be ones.
func CheckSELinux(field string, o *cri.SELinuxOption) error {
	for _, part := range []struct{ name, value, not string }{
		{"user", o.GetUser(), ": \n\x00"},
		{"role", o.GetRole(), ": \n\x00"},
		{"type", o.GetType(), ": \n\x00"},
		{"level", o.GetLevel(), " \n\x00"},
	} {
		if strings.ContainsAny(part.value, part.not) {
			return refusal.Invalid(field+"."+part.name, part.value, "has a character that labels don't have")
		}
	}
	return nil
}

// covers reports whether a path is a directory or below it; both are clean and absolute.
func covers(dir, p string) bool {
	return dir == "/" || p == dir || strings.HasPrefix(p, dir+"/")
}
