package confine

import (
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

const (
	fieldSeccomp           = "linux.security_context.seccomp"
	fieldSeccompDeprecated = "linux.security_context.seccomp_profile_path"
)

// seccompProfile is the profile that the container asks for, and the field that it
// is from. Neither field set is unconfined, as the CRI says; the kubelet always
// sets one.
func (r *Request) seccompProfile() (*cri.SecurityProfile, string) {
	if r.Security.Seccomp != nil {
		return r.Security.Seccomp, fieldSeccomp
	}
	return deprecatedProfile(r.Security.SeccompProfilePath), fieldSeccompDeprecated
}

// Seccomp restricts system calls.
func (r *Request) Seccomp(spec *specs.Spec) error {
	profile, field := r.seccompProfile()
	if r.Security.Privileged {
		return r.privilegedSeccomp(spec)
	}
	if profile.ProfileType == cri.SecurityProfile_Unconfined && r.Artifact == nil {
		return nil
	}
	if !r.canSeccomp() {
		return refusal.Unsupported(field, profile.ProfileType, "can't be applied: the kernel or the runtime has no seccomp")
	}
	var err error
	if r.Artifact != nil {
		if spec.Linux.Seccomp, err = loadSeccomp(Profile{Data: r.Artifact.Data}, spec); err != nil {
			return refusal.Invalid(r.Artifact.Field(), r.Artifact.Name, "can't be used: %v", err)
		}
		return nil
	}
	switch profile.ProfileType {
	case cri.SecurityProfile_RuntimeDefault:
		if r.Options.Seccomp != nil {
			spec.Linux.Seccomp, err = loadSeccomp(Profile{Data: r.Options.Seccomp}, spec)
		} else {
			spec.Linux.Seccomp, err = seccomp.GetDefaultProfile(spec)
		}
		if err == nil && r.Options.NativeSeccomp && r.Native {
			r.Node.nativeOnly(spec.Linux.Seccomp)
		}
	case cri.SecurityProfile_Localhost:
		spec.Linux.Seccomp, err = loadSeccomp(r.Found.Seccomp, spec)
	}
	if err != nil {
		return refusal.Invalid(field, profile.LocalhostRef, "can't be used: %v", err)
	}
	return nil
}

// HolderSeccomp restricts the holder of a pod's PID namespace, a program of Stele's own.
func HolderSeccomp(n *Node, spec *specs.Spec) error {
	profile, err := seccomp.GetDefaultProfile(spec)
	if err != nil {
		return err
	}
	n.nativeOnly(profile)
	spec.Linux.Seccomp = profile
	return nil
}

// architectures are as profiles name them, by how Go and images do.
var architectures = map[string]specs.Arch{
	"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64, "s390x": specs.ArchS390X,
	"ppc64le": specs.ArchPPC64LE, "riscv64": specs.ArchRISCV64,
}

// nativeOnly drops the conventions for system calls of related architectures, such as those of
// 32-bit programs: the kernel then kills whoever uses one. Runtimes compile a profile at each
// creation and each command, once for each architecture: it is a third to a half of the CPU time
// that they take.
func (n *Node) nativeOnly(profile *specs.LinuxSeccomp) {
	if native := architectures[n.Arch]; slices.Contains(profile.Architectures, native) {
		profile.Architectures = []specs.Arch{native}
	}
}

// privilegedSeccomp restricts a privileged container only if the administrator wants that.
func (r *Request) privilegedSeccomp(spec *specs.Spec) (err error) {
	if r.Options.PrivilegedSeccomp == nil {
		return nil
	}
	if !r.canSeccomp() {
		return refusal.Unsupported("linux.security_context.privileged", nil, "has a seccomp profile on this node, but the kernel or the runtime has no seccomp")
	}
	spec.Linux.Seccomp, err = loadSeccomp(Profile{Data: r.Options.PrivilegedSeccomp}, spec)
	return err
}

// CheckSeccomp says why data, JSON, is not a seccomp profile.
func CheckSeccomp(data []byte) error {
	_, err := loadSeccomp(Profile{Data: data}, &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	return err
}

// loadSeccomp reads a profile. The spec's capabilities decide which of its rules
// apply.
func loadSeccomp(file Profile, spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	if file.Err != nil {
		return nil, file.Err
	}
	profile, err := seccomp.LoadProfile(string(file.Data), spec)
	if err == nil && profile == nil {
		err = errors.New("the profile is empty")
	}
	return profile, err
}

func (r *Request) canSeccomp() bool {
	if !r.Node.Seccomp {
		return false
	}
	f := r.Features
	if f == nil || f.Linux == nil || f.Linux.Seccomp == nil || f.Linux.Seccomp.Enabled == nil {
		// The runtime doesn't say. One that can't will fail to create.
		return true
	}
	return *f.Linux.Seccomp.Enabled
}

// deprecatedProfile reads the string form of a profile, which the CRI had before
// SecurityProfile. Check has seen to it that there is no other.
func deprecatedProfile(s string) *cri.SecurityProfile {
	if ref, ok := strings.CutPrefix(s, "localhost/"); ok {
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: ref}
	}
	if s == "runtime/default" || s == "docker/default" {
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
	}
	return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}
}

// checkProfilePath checks the path of a profile on the node.
func checkProfilePath(field, file string) error {
	if !path.IsAbs(file) || path.Clean(file) != file || strings.Contains(file, "\x00") {
		return refusal.Invalid(field, file, "is not an absolute, clean path")
	}
	return nil
}

func checkSeccomp(sec *cri.LinuxContainerSecurityContext) error {
	if p := sec.Seccomp; p != nil {
		return checkProfile(fieldSeccomp, p, checkProfilePath)
	}
	switch path := sec.SeccompProfilePath; path {
	case "", "unconfined", "runtime/default", "docker/default":
		return nil
	default:
		ref, ok := strings.CutPrefix(path, "localhost/")
		if !ok {
			return refusal.Invalid(fieldSeccompDeprecated, path, "is neither runtime/default, unconfined nor localhost/PATH")
		}
		return checkProfilePath(fieldSeccompDeprecated, ref)
	}
}
