package confine

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go/features"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// Node is what the node and this process can confine with.
type Node struct {
	// Arch is the architecture, as Go and images name it.
	Arch string
	// Capabilities that this process has and may pass on, sorted.
	Capabilities []string
	// Seccomp, AppArmor, SELinux: the kernel has it, and it is on.
	Seccomp, AppArmor, SELinux bool
	// Contexts are the SELinux policy's for containers.
	Contexts Contexts
}

// Has reports whether the process has a capability, by its full name.
func (n *Node) Has(name string) bool { return slices.Contains(n.Capabilities, name) }

// Options is what the node's administrator decides. The zero value is the default.
type Options struct {
	// Capabilities that a container has unless it asks otherwise; nil means
	// DefaultCapabilities.
	Capabilities []string
	// InheritableCapabilities makes what is granted inheritable, too.
	InheritableCapabilities bool
	// Seccomp is what the CRI's RuntimeDefault means, as JSON; nil means Stele's own profile.
	Seccomp []byte
	// NativeSeccomp makes RuntimeDefault's profile one for the node's own architecture alone,
	// where the image's is that: see nativeOnly.
	NativeSeccomp bool
	// PrivilegedSeccomp is the profile of privileged containers, as JSON; nil means none.
	PrivilegedSeccomp []byte
	// AppArmorProfile is what the CRI's RuntimeDefault means; empty means none.
	AppArmorProfile string
	// LabelHostNetwork keeps the SELinux label of processes on the node's network.
	LabelHostNetwork bool
	// OwnDirs are the directories that belong to this runtime (its root and its
	// state): they are never given a container's SELinux label.
	OwnDirs []string
}

// Questions are what must be known of the node.
type Questions struct {
	// Labels are SELinux labels that the policy must have.
	Labels []string
	// SeccompProfile is the path of a profile on the node.
	SeccompProfile string
	// AppArmorProfile is the name of a profile that must be loaded.
	AppArmorProfile string
}

// Answers are the node's to Questions.
type Answers struct {
	// Labels says why one is not in the policy; nil if all are.
	Labels   error
	Seccomp  Profile
	AppArmor Loaded
}

// Profile is the content of a seccomp profile, bounded by the reader.
type Profile struct {
	Data []byte
	Err  error
}

// Loaded says whether the kernel has an AppArmor profile.
type Loaded struct {
	Is  bool
	Err error
}

// Request is what is planned from. It has passed Check.
type Request struct {
	// Security is the container's; never nil.
	Security *cri.LinuxContainerSecurityContext
	// Sandbox is the pod's configuration.
	Sandbox *cri.PodSandboxConfig
	// Kubelet: the request is the kubelet's.
	Kubelet bool
	// Init: the container's program is an init system.
	Init bool
	// Native: the image is of the node's own architecture.
	Native bool
	// Artifact is the seccomp profile that the pod's annotations name; nil for none.
	Artifact *Artifact
	// Annotations are those that the administrator allows.
	Annotations []string
	Node        *Node
	Options     Options
	// Features is what the runtime reports; nil if it has no such command.
	Features *features.Features
	Found    Answers
}

// Ask returns what must be known to plan.
func (r *Request) Ask() Questions {
	q := Questions{Labels: r.labels(), AppArmorProfile: r.askedAppArmor()}
	if p, _ := r.seccompProfile(); p.ProfileType == cri.SecurityProfile_Localhost && !r.Security.Privileged {
		q.SeccompProfile = p.LocalhostRef
	}
	return q
}

// Check refuses what is wrong whatever the node is.
func Check(sec *cri.LinuxContainerSecurityContext) error {
	const prefix = "linux.security_context."
	return refusal.First(
		func() error { return checkCapabilities(sec.Capabilities) },
		func() error { return checkSeccomp(sec) },
		func() error { return checkAppArmor(sec) },
		func() error { return CheckSELinux(fieldSELinux, sec.SelinuxOptions) },
		func() error { return checkHidden(prefix+"masked_paths", sec.MaskedPaths) },
		func() error { return checkHidden(prefix+"readonly_paths", sec.ReadonlyPaths) },
	)
}

func checkProfile(field string, p *cri.SecurityProfile, checkRef func(field, ref string) error) error {
	switch p.ProfileType {
	case cri.SecurityProfile_RuntimeDefault, cri.SecurityProfile_Unconfined:
		if p.LocalhostRef != "" {
			return refusal.Invalid(field+".localhost_ref", p.LocalhostRef, "is given, but the profile's type is %s", p.ProfileType)
		}
		return nil
	case cri.SecurityProfile_Localhost:
		return checkRef(field+".localhost_ref", p.LocalhostRef)
	}
	return refusal.Invalid(field+".profile_type", int32(p.ProfileType), "is not a type of the CRI's")
}
