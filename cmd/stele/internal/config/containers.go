package config

import (
	"fmt"
	"path"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/sys/capability"

	"github.com/stele-runtime/stele/executors/spec"
)

// checkContainers checks what applies to all containers.
func (r *Runtime) checkContainers() []error {
	problems := []error{
		file("runtime.seccomp_profile", r.SeccompProfile),
		file("runtime.privileged_seccomp_profile", r.PrivilegedSeccompProfile),
	}
	each := func(key string, values []string, check func(string) string) {
		for i, value := range values {
			if why := check(value); why != "" {
				problems = append(problems, refuse(fmt.Sprintf("runtime.%s[%d]", key, i), value, why))
			}
		}
	}
	each("default_ulimits", r.DefaultUlimits, func(s string) string {
		if _, err := units.ParseUlimit(s); err != nil {
			return "is not a limit, as in \"nofile=1024:2048\""
		}
		return ""
	})
	each("default_capabilities", r.DefaultCapabilities, func(s string) string {
		if !isCapability(s) {
			return "is not a capability"
		}
		return ""
	})
	each("default_env", r.DefaultEnv, func(s string) string {
		if name, _, is := strings.Cut(s, "="); !is || name == "" || strings.Contains(s, "\x00") {
			return "is not KEY=VALUE"
		}
		return ""
	})
	each("additional_devices", r.AdditionalDevices, func(s string) string {
		if _, err := spec.ParseDevice(s); err != nil {
			return err.Error()
		}
		return ""
	})
	each("allowed_devices", r.AllowedDevices, func(s string) string {
		if !path.IsAbs(s) || path.Clean(s) != s {
			return "is not an absolute, clean path"
		}
		return ""
	})
	for i, name := range r.CDISpecDirs {
		problems = append(problems, dir(fmt.Sprintf("runtime.cdi_spec_dirs[%d]", i), name))
	}
	if r.PidsLimit < 0 {
		problems = append(problems, refuse("runtime.pids_limit", r.PidsLimit, "is negative"))
	}
	if strings.ContainsAny(r.ApparmorProfile, " \t\r\n\x00") {
		problems = append(problems, refuse("runtime.apparmor_profile", r.ApparmorProfile, "is not a profile's name"))
	}
	return problems
}

func isCapability(name string) bool {
	name = strings.ToLower(strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
	for _, known := range capability.ListKnown() {
		if known.String() == name {
			return true
		}
	}
	return false
}
