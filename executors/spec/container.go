package spec

import (
	"fmt"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// builder makes one spec. Its steps run in the order that Container lists; each
// reads the input and fills its own part of the spec.
type builder struct {
	in    Input
	image imagespec.ImageConfig
	// sec and res are never nil.
	sec  *cri.LinuxContainerSecurityContext
	res  *cri.LinuxContainerResources
	spec *specs.Spec
}

// Container returns the runtime spec of a container. The error is a FieldError
// if a field of the request, or something in the image, is to blame.
func Container(in Input) (*specs.Spec, error) {
	if err := ValidateSandbox(in.Sandbox); err != nil {
		return nil, err
	}
	if err := ValidateContainer(in.Container, in.Sandbox); err != nil {
		return nil, err
	}
	b := &builder{in: in, sec: in.Container.GetLinux().GetSecurityContext(), res: in.Container.GetLinux().GetResources()}
	if b.sec == nil {
		b.sec = &cri.LinuxContainerSecurityContext{}
	}
	if b.res == nil {
		b.res = &cri.LinuxContainerResources{}
	}
	if in.Image != nil {
		b.image = in.Image.Config
	}
	b.spec = &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: in.Rootfs, Readonly: b.sec.ReadonlyRootfs},
		Process: &specs.Process{
			Terminal:        in.Container.Tty,
			NoNewPrivileges: b.sec.NoNewPrivs,
		},
		Linux: &specs.Linux{CgroupsPath: in.CgroupsPath, Resources: &specs.LinuxResources{}},
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"privileges", b.privileges},
		{"namespaces", b.namespaces},
		{"command", b.command},
		{"environment", b.environment},
		{"user", b.user},
		{"capabilities", b.capabilities},
		{"labels", b.selinux},
		{"mounts", b.mounts},
		// After the mounts: a directory below one of them is not made.
		{"working directory", b.workingDir},
		{"devices", b.devices},
		{"resources", b.resources},
		{"paths", b.hiddenPaths},
		{"apparmor", b.apparmor},
		// After the capabilities: they decide which system calls are allowed.
		{"seccomp", b.seccomp},
		{"annotations", b.annotations},
	} {
		if err := step.do(); err != nil {
			return nil, fmt.Errorf("container spec: %s: %w", step.name, err)
		}
	}
	return b.spec, nil
}

func (b *builder) privileges() error {
	if b.sec.Privileged && b.in.Options.ForbidPrivileged {
		return unsupported("linux.security_context.privileged", nil, "is not allowed on this node")
	}
	return nil
}
