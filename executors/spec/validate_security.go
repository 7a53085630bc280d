package spec

import (
	"path"
	"slices"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
	"github.com/stele-runtime/stele/executors/spec/userns"
)

func checkSecurity(sec *cri.LinuxContainerSecurityContext, s *cri.PodSandboxConfig) error {
	if sec == nil {
		return nil
	}
	const prefix = "linux.security_context."
	return refusal.First(
		func() error {
			if sec.Privileged && !s.GetLinux().GetSecurityContext().GetPrivileged() {
				return refusal.Invalid(prefix+"privileged", nil, "is set, but the pod's sandbox was not announced as privileged")
			}
			return nil
		},
		func() error { return checkUser(sec) },
		func() error {
			if _, ok := cri.SupplementalGroupsPolicy_name[int32(sec.SupplementalGroupsPolicy)]; !ok {
				return refusal.Invalid(prefix+"supplemental_groups_policy", int32(sec.SupplementalGroupsPolicy), "is not a policy of the CRI's")
			}
			return nil
		},
		func() error { return checkCapabilities(sec.Capabilities) },
		func() error { return checkNamespaces(prefix+"namespace_options", sec.NamespaceOptions) },
		func() error { return userns.CheckContainer(prefix+"namespace_options", sec.NamespaceOptions, s) },
		func() error { return checkSeccomp(sec) },
		func() error { return checkAppArmor(sec) },
		func() error { return checkSELinux(prefix+"selinux_options", sec.SelinuxOptions) },
		func() error { return checkHidden(prefix+"masked_paths", sec.MaskedPaths) },
		func() error { return checkHidden(prefix+"readonly_paths", sec.ReadonlyPaths) },
	)
}

// checkUser follows the CRI's comments on the three fields.
func checkUser(sec *cri.LinuxContainerSecurityContext) error {
	if sec.RunAsUser != nil && sec.RunAsUsername != "" {
		return refusal.Invalid(fieldRunAsUsername, sec.RunAsUsername, "is given together with run_as_user")
	}
	if sec.RunAsGroup != nil && sec.RunAsUser == nil && sec.RunAsUsername == "" {
		return refusal.Invalid(fieldRunAsGroup, sec.RunAsGroup.Value, "is given without run_as_user or run_as_username")
	}
	if sec.RunAsUsername != "" {
		if isNumber(sec.RunAsUsername) {
			return refusal.Invalid(fieldRunAsUsername, sec.RunAsUsername, "is a number, which belongs into run_as_user")
		}
		if err := checkAccountName(fieldRunAsUsername, sec.RunAsUsername); err != nil {
			return err
		}
	}
	return checkIDs("linux.security_context.", sec.RunAsUser, sec.RunAsGroup, sec.SupplementalGroups)
}

func checkIDs(prefix string, user, group *cri.Int64Value, supplemental []int64) error {
	outside := func(id int64) bool { return id < 0 || id > maxID }
	if user != nil && outside(user.Value) {
		return refusal.Invalid(prefix+"run_as_user", user.Value, "is out of range (0 to %d)", maxID)
	}
	if group != nil && outside(group.Value) {
		return refusal.Invalid(prefix+"run_as_group", group.Value, "is out of range (0 to %d)", maxID)
	}
	if i := slices.IndexFunc(supplemental, outside); i >= 0 {
		return refusal.Invalid(prefix+"supplemental_groups", supplemental[i], "is out of range (0 to %d)", maxID)
	}
	return nil
}

func checkCapabilities(c *cri.Capability) error {
	known := knownCapabilities()
	for _, list := range []struct {
		field string
		names []string
	}{
		{".add_capabilities", c.GetAddCapabilities()},
		{".drop_capabilities", c.GetDropCapabilities()},
		{".add_ambient_capabilities", c.GetAddAmbientCapabilities()},
	} {
		for _, name := range list.names {
			if full := CapabilityName(name); full != "ALL" && !slices.Contains(known, full) {
				return refusal.Invalid(fieldCapabilities+list.field, name, "is not a capability")
			}
		}
	}
	return nil
}

func checkNamespaces(field string, o *cri.NamespaceOption) error {
	if o == nil {
		return nil
	}
	for _, ns := range []struct {
		name string
		mode cri.NamespaceMode
	}{{"network", o.Network}, {"pid", o.Pid}, {"ipc", o.Ipc}} {
		if _, ok := cri.NamespaceMode_name[int32(ns.mode)]; !ok {
			return refusal.Invalid(field+"."+ns.name, int32(ns.mode), "is not a mode of the CRI's")
		}
		if ns.mode == cri.NamespaceMode_TARGET && ns.name != "pid" || ns.mode == cri.NamespaceMode_CONTAINER && ns.name == "network" {
			return refusal.Invalid(field+"."+ns.name, ns.mode, "is a mode that this namespace doesn't have")
		}
	}
	if o.Pid == cri.NamespaceMode_TARGET && o.TargetId == "" {
		return refusal.Invalid(field+".target_id", nil, "is empty, but the pid mode is TARGET")
	}
	return userns.Check(field, o)
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

func checkAppArmorName(field, name string) error {
	if name == "" || strings.ContainsAny(name, " \n\r\t\x00") {
		return refusal.Invalid(field, name, "is not a profile's name")
	}
	return nil
}

func checkSELinux(field string, o *cri.SELinuxOption) error {
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

func checkHidden(field string, paths []string) error {
	for _, p := range paths {
		if !path.IsAbs(p) {
			return refusal.Invalid(field, p, "is not an absolute path")
		}
		if err := refusal.CheckText(field, p); err != nil {
			return err
		}
		if err := refusal.CheckNoProcess(field, p); err != nil {
			return err
		}
	}
	return nil
}
