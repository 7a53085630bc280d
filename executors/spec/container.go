package spec

import (
	"fmt"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
	"github.com/stele-runtime/stele/executors/spec/userns"
)

// Container plans a container. The error is a FieldError if a field of the
// request, or something in the image, is to blame.
func Container(in Input, found Answers) (Plan, error) {
	r, err := newRequest(in, found)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{Spec: &specs.Spec{
		Version: ociVersion,
		Root:    &specs.Root{Path: in.Rootfs, Readonly: r.readonlyRoot()},
		Process: &specs.Process{
			Terminal:        in.Container.Tty,
			NoNewPrivileges: r.sec.NoNewPrivs,
		},
		Linux: &specs.Linux{CgroupsPath: in.CgroupsPath, Resources: &specs.LinuxResources{}},
	}}
	for _, concept := range []struct {
		name string
		plan func(*request, *Plan) error
	}{
		{"privileges", checkPrivileges},
		{"namespaces", planNamespaces},
		{"command", planCommand},
		{"environment", planEnvironment},
		{"user", planUser},
		// Before the mounts: volumes copy the files.
		{"accounts", planAccounts},
		{"/etc", planEtc},
		{"capabilities", planCapabilities},
		{"labels", planLabels},
		// After the labels: volumes get them.
		{"mounts", planMounts},
		// After the mounts: a directory below one of them is not made.
		{"working directory", planWorkingDir},
		{"devices", planDevices},
		{"resources", planResources},
		{"paths", planHiddenPaths},
		{"apparmor", planAppArmor},
		// After the capabilities: they decide which system calls are allowed.
		{"seccomp", planSeccomp},
		{"annotations", planAnnotations},
	} {
		if err := concept.plan(r, &plan); err != nil {
			return Plan{}, fmt.Errorf("container spec: %s: %w", concept.name, err)
		}
	}
	return plan, nil
}

// ociVersion is the lowest version of the runtime spec that has what a plan uses: crun 1.8
// refuses any that it does not know. What came later is understood by runtimes of that
// time under this version, too (cgroup v2's files, seccomp's error numbers), or is used
// only if the runtime reports it (rro).
const ociVersion = "1.0.2"

// request is what a plan is made from, validated and with defaults filled in. Each
// concept reads it and fills its own part of the plan.
type request struct {
	Input
	found Answers
	image imagespec.ImageConfig
	// sec and res are never nil.
	sec *cri.LinuxContainerSecurityContext
	res *cri.LinuxContainerResources
	// users are the pod's; nil if they are the node's.
	users *userns.Mapping
}

func newRequest(in Input, found Answers) (*request, error) {
	if err := ValidateSandbox(in.Sandbox); err != nil {
		return nil, err
	}
	if err := ValidateContainer(in.Container, in.Sandbox); err != nil {
		return nil, err
	}
	r := &request{Input: in, found: found, sec: in.Container.GetLinux().GetSecurityContext(), res: in.Container.GetLinux().GetResources(), users: userns.Of(in.Sandbox)}
	if r.sec == nil {
		r.sec = &cri.LinuxContainerSecurityContext{}
	}
	if r.res == nil {
		r.res = &cri.LinuxContainerResources{}
	}
	if in.Image != nil {
		r.image = in.Image.Config
	}
	return r, nil
}

// readonlyRoot: the pod wants it, or the administrator for all.
func (r *request) readonlyRoot() bool { return r.sec.ReadonlyRootfs || r.Options.ReadOnly }

func checkPrivileges(r *request, _ *Plan) error {
	if r.sec.Privileged && r.Options.ForbidPrivileged {
		return refusal.Unsupported("linux.security_context.privileged", nil, "is not allowed on this node")
	}
	return nil
}
