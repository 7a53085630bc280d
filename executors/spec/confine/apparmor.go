package confine

import (
	"fmt"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

const (
	fieldAppArmor           = "linux.security_context.apparmor"
	fieldAppArmorDeprecated = "linux.security_context.apparmor_profile"
)

// OwnAppArmorProfile is the profile that Stele brings.
const OwnAppArmorProfile = "stele-default"

// appArmorProfile is the profile that the container asks for, and the field that
// it is from.
func (r *Request) appArmorProfile() (*cri.SecurityProfile, string) {
	if r.Security.Apparmor != nil {
		return r.Security.Apparmor, fieldAppArmor
	}
	return deprecatedAppArmor(r.Security.ApparmorProfile), fieldAppArmorDeprecated
}

// AppArmor names the profile that confines the process, and returns the one that must be
// loaded before it runs, if any. A profile of the node's that the pod names must be loaded
// already: to run without it would be a breach.
func (r *Request) AppArmor(process *specs.Process) (load string, err error) {
	if r.Security.Privileged {
		return "", nil
	}
	profile, field := r.appArmorProfile()
	switch profile.ProfileType {
	case cri.SecurityProfile_RuntimeDefault:
		name := r.Options.AppArmorProfile
		if !r.Node.AppArmor || name == "" || r.ignoresAppArmor() {
			return "", nil
		}
		process.ApparmorProfile = name
		if name == OwnAppArmorProfile {
			return name, nil
		}
		if err := r.Found.AppArmor.Err; err != nil {
			return "", fmt.Errorf("look for the node's apparmor_profile %q: %w", name, err)
		}
		if !r.Found.AppArmor.Is {
			return "", refusal.Unsupported(field, profile.ProfileType, "can't be applied: the node's apparmor_profile %q is not loaded", name)
		}
	case cri.SecurityProfile_Localhost:
		if !r.Node.AppArmor {
			return "", refusal.Unsupported(field, profile.LocalhostRef, "can't be applied: the node has no AppArmor")
		}
		if r.ignoresAppArmor() {
			return "", refusal.Unsupported(field, profile.LocalhostRef, "can't be applied: the handler's runtime has no AppArmor")
		}
		if profile.LocalhostRef == OwnAppArmorProfile {
			process.ApparmorProfile = OwnAppArmorProfile
			return OwnAppArmorProfile, nil
		}
		if err := r.Found.AppArmor.Err; err != nil {
			return "", fmt.Errorf("look for the AppArmor profile %q: %w", profile.LocalhostRef, err)
		}
		if !r.Found.AppArmor.Is {
			return "", refusal.Invalid(field, profile.LocalhostRef, "is not loaded on the node")
		}
		process.ApparmorProfile = profile.LocalhostRef
	}
	return "", nil
}

// ignoresAppArmor reports whether the runtime says that it applies no profiles, as gVisor's does.
func (r *Request) ignoresAppArmor() bool {
	f := r.Features
	return f != nil && f.Linux != nil && f.Linux.Apparmor != nil && f.Linux.Apparmor.Enabled != nil && !*f.Linux.Apparmor.Enabled
}

// askedAppArmor is the profile that must be loaded already; empty for none.
func (r *Request) askedAppArmor() string {
	if !r.Node.AppArmor || r.Security.Privileged {
		return ""
	}
	name := ""
	switch p, _ := r.appArmorProfile(); p.ProfileType {
	case cri.SecurityProfile_RuntimeDefault:
		name = r.Options.AppArmorProfile
	case cri.SecurityProfile_Localhost:
		name = p.LocalhostRef
	}
	if name == OwnAppArmorProfile {
		return ""
	}
	return name
}

// deprecatedAppArmor reads the string form of a profile; empty is the default.
func deprecatedAppArmor(s string) *cri.SecurityProfile {
	if ref, ok := strings.CutPrefix(s, "localhost/"); ok {
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: ref}
	}
	if s == "unconfined" {
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}
	}
	return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
}

func checkAppArmor(sec *cri.LinuxContainerSecurityContext) error {
	if p := sec.Apparmor; p != nil {
		return checkProfile(fieldAppArmor, p, checkAppArmorName)
	}
	switch profile := sec.ApparmorProfile; profile {
	case "", "unconfined", "runtime/default":
		return nil
	default:
		ref, ok := strings.CutPrefix(profile, "localhost/")
		if !ok {
			return refusal.Invalid(fieldAppArmorDeprecated, profile, "is neither runtime/default, unconfined nor localhost/NAME")
		}
		return checkAppArmorName(fieldAppArmorDeprecated, ref)
	}
}

func checkAppArmorName(field, name string) error {
	if name == "" || strings.ContainsAny(name, " \n\r\t\x00") {
		return refusal.Invalid(field, name, "is not a profile's name")
	}
	return nil
}
