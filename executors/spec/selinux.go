package spec

import (
	"fmt"
	"path/filepath"

	"github.com/opencontainers/selinux/go-selinux/label"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// selinux sets the labels that the container's options, or else the pod's, ask
// for. A privileged container has none.
func (b *builder) selinux() error {
	opts := b.sec.SelinuxOptions
	if opts == nil {
		opts = b.in.Sandbox.GetLinux().GetSecurityContext().GetSelinuxOptions()
	}
	if !b.in.Host.SELinux || b.sec.Privileged || opts == nil {
		return nil
	}
	process, mount, err := label.InitLabels(labelOptions(opts))
	if err != nil {
		return invalid("linux.security_context.selinux_options", nil, "can't be used: %v", err)
	}
	b.spec.Process.SelinuxLabel, b.spec.Linux.MountLabel = process, mount
	return nil
}

func labelOptions(o *cri.SELinuxOption) []string {
	var out []string
	for _, part := range []struct{ name, value string }{
		{"user", o.User}, {"role", o.Role}, {"type", o.Type}, {"level", o.Level},
	} {
		if part.value != "" {
			out = append(out, part.name+":"+part.value)
		}
	}
	return out
}

// relabel gives a volume the container's label, so that it can use it. What
// belongs to the runtime, or holds it, is never relabelled: a host path would
// hand it to the container (CVE-2021-43816).
func (b *builder) relabel(field, source string) error {
	for _, own := range b.in.Options.OwnDirs {
		own = filepath.Clean(own)
		if covers(own, source) || covers(source, own) {
			return invalid(field+".selinux_relabel", source, "is refused: the path belongs to the runtime")
		}
	}
	mountLabel := b.spec.Linux.MountLabel
	if !b.in.Host.SELinux || mountLabel == "" {
		return nil
	}
	if err := label.Relabel(source, mountLabel, false); err != nil {
		return fmt.Errorf("relabel %s as %s: %w", source, mountLabel, err)
	}
	return nil
}
