package daemon

import (
	"fmt"
	"strings"

	"github.com/stele-runtime/stele/executors/spec"
)

// Unconfined is the error of a node whose security modules are not used yet. Pods run on it
// all the same.
type Unconfined struct{ Modules []string }

func (e *Unconfined) Error() string {
	return fmt.Sprintf("the node has %s, which this version does not apply: containers run unconfined", strings.Join(e.Modules, " and "))
}

// Degraded is part of cri.Health's errors.
func (e *Unconfined) Degraded() bool { return true }

// Confinement returns an *Unconfined if the node could confine containers and does not.
func Confinement(node *spec.HostFacts) error {
	if modules := unused(node); len(modules) > 0 {
		return &Unconfined{Modules: modules}
	}
	return nil
}

// unused are the security modules that are on and not applied.
func unused(node *spec.HostFacts) []string {
	var modules []string
	if node.AppArmor {
		modules = append(modules, "AppArmor")
	}
	if node.SELinux {
		modules = append(modules, "SELinux")
	}
	return modules
}
