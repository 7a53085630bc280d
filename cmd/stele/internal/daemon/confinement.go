package daemon

import (
	"fmt"
	"strings"

	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/executors/apparmor"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/spec/confine"
)

// Unconfined is the error of a node whose security modules can't be used. Pods run on it
// all the same.
type Unconfined struct{ Modules []string }

func (e *Unconfined) Error() string {
	return fmt.Sprintf("the node has %s: containers run unconfined by it", strings.Join(e.Modules, " and "))
}

// Degraded is part of cri.Health's errors.
func (e *Unconfined) Degraded() bool { return true }

// Confinement returns an *Unconfined if the node could confine containers and does not, although
// the administrator did not say so.
func Confinement(node *spec.HostFacts, r config.Runtime) error {
	if modules := unused(node, r); len(modules) > 0 {
		return &Unconfined{Modules: modules}
	}
	return nil
}

// unused are the security modules that are on and not applied.
func unused(node *spec.HostFacts, r config.Runtime) []string {
	var modules []string
	if node.AppArmor && r.ApparmorProfile != unconfined && appArmorProfile(node, r) == "" {
		modules = append(modules, "AppArmor (there is no apparmor_parser)")
	}
	if node.SELinux && node.Contexts.Process == "" {
		modules = append(modules, "SELinux (its policy has no labels for containers)")
	}
	return modules
}

// unconfined, in place of a profile's name, means none.
const unconfined = "unconfined"

// appArmorProfile is what RuntimeDefault means; empty means that nothing confines.
func appArmorProfile(node *spec.HostFacts, r config.Runtime) string {
	switch {
	case !node.AppArmor, r.ApparmorProfile == unconfined:
		return ""
	case r.ApparmorProfile != "":
		return r.ApparmorProfile
	}
	if !apparmor.CanHave(confine.OwnAppArmorProfile) {
		return ""
	}
	return confine.OwnAppArmorProfile
}
