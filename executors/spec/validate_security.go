package spec

import (
	"slices"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/confine"
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
		func() error { return checkNamespaces(prefix+"namespace_options", sec.NamespaceOptions) },
		func() error { return userns.CheckContainer(prefix+"namespace_options", sec.NamespaceOptions, s) },
		func() error { return confine.Check(sec) },
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
