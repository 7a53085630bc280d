package daemon

import (
	"errors"
	"slices"
	"testing"

	"github.com/stele-runtime/stele/executors/spec"
)

func TestConfinement(t *testing.T) {
	if err := Confinement(&spec.HostFacts{}); err != nil {
		t.Errorf("a node without either module: %v", err)
	}
	err := Confinement(&spec.HostFacts{AppArmor: true, SELinux: true})
	unconfined, ok := errors.AsType[*Unconfined](err)
	if !ok || !unconfined.Degraded() || !slices.Equal(unconfined.Modules, []string{"AppArmor", "SELinux"}) {
		t.Errorf("a node with both: %v", err)
	}
}
