package spec

import (
	"fmt"
	"strings"

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
func (r *request) appArmorProfile() (*cri.SecurityProfile, string) {
	if r.sec.Apparmor != nil {
		return r.sec.Apparmor, fieldAppArmor
	}
	return deprecatedAppArmor(r.sec.ApparmorProfile), fieldAppArmorDeprecated
}

// planAppArmor names the profile that confines the process. A profile of the
// node's that the pod names must be loaded: to run without it would be a breach.
func planAppArmor(r *request, plan *Plan) error {
	if r.sec.Privileged {
		return nil
	}
	profile, field := r.appArmorProfile()
	switch profile.ProfileType {
	case cri.SecurityProfile_RuntimeDefault:
		if r.Host.AppArmor {
			plan.Spec.Process.ApparmorProfile = r.Options.AppArmorProfile
			if r.Options.AppArmorProfile == OwnAppArmorProfile {
				plan.Steps = append(plan.Steps, LoadAppArmor{Profile: OwnAppArmorProfile})
			}
		}
	case cri.SecurityProfile_Localhost:
		if !r.Host.AppArmor {
			return refusal.Unsupported(field, profile.LocalhostRef, "can't be applied: the node has no AppArmor")
		}
		if err := r.found.AppArmor.Err; err != nil {
			return fmt.Errorf("look for the AppArmor profile %q: %w", profile.LocalhostRef, err)
		}
		if !r.found.AppArmor.Is {
			return refusal.Invalid(field, profile.LocalhostRef, "is not loaded on the node")
		}
		plan.Spec.Process.ApparmorProfile = profile.LocalhostRef
	}
	return nil
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
