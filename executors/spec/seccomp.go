package spec

import (
	"errors"
	"path"
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
func (r *request) seccompProfile() (*cri.SecurityProfile, string) {
	if r.sec.Seccomp != nil {
		return r.sec.Seccomp, fieldSeccomp
	}
	return deprecatedProfile(r.sec.SeccompProfilePath), fieldSeccompDeprecated
}

// planSeccomp restricts system calls.
func planSeccomp(r *request, plan *Plan) error {
	profile, field := r.seccompProfile()
	if r.sec.Privileged {
		return r.planPrivilegedSeccomp(plan)
	}
	if profile.ProfileType == cri.SecurityProfile_Unconfined {
		return nil
	}
	if !r.canSeccomp() {
		return refusal.Unsupported(field, profile.ProfileType, "can't be applied: the kernel or the runtime has no seccomp")
	}
	var err error
	switch profile.ProfileType {
	case cri.SecurityProfile_RuntimeDefault:
		if r.Options.Seccomp != nil {
			plan.Spec.Linux.Seccomp, err = loadSeccomp(File{Data: r.Options.Seccomp}, plan.Spec)
			break
		}
		plan.Spec.Linux.Seccomp, err = seccomp.GetDefaultProfile(plan.Spec)
	case cri.SecurityProfile_Localhost:
		plan.Spec.Linux.Seccomp, err = loadSeccomp(r.found.Seccomp, plan.Spec)
	}
	if err != nil {
		return refusal.Invalid(field, profile.LocalhostRef, "can't be used: %v", err)
	}
	return nil
}

// planPrivilegedSeccomp restricts a privileged container only if the administrator wants that.
func (r *request) planPrivilegedSeccomp(plan *Plan) (err error) {
	if r.Options.PrivilegedSeccomp == nil {
		return nil
	}
	if !r.canSeccomp() {
		return refusal.Unsupported("linux.security_context.privileged", nil, "has a seccomp profile on this node, but the kernel or the runtime has no seccomp")
	}
	plan.Spec.Linux.Seccomp, err = loadSeccomp(File{Data: r.Options.PrivilegedSeccomp}, plan.Spec)
	return err
}

// CheckSeccomp says why data, JSON, is not a seccomp profile.
func CheckSeccomp(data []byte) error {
	_, err := loadSeccomp(File{Data: data}, &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	return err
}

// loadSeccomp reads a profile. The spec's capabilities decide which of its rules
// apply.
func loadSeccomp(file File, spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	if file.Err != nil {
		return nil, file.Err
	}
	profile, err := seccomp.LoadProfile(string(file.Data), spec)
	if err == nil && profile == nil {
		err = errors.New("the profile is empty")
	}
	return profile, err
}

func (r *request) canSeccomp() bool {
	if !r.Host.Seccomp {
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
// SecurityProfile. ValidateContainer has seen to it that there is no other.
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
