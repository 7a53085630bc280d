package confine

import (
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
)

// A runtime that says that it applies neither profiles nor labels gets none by default, and a
// container that names one is refused.
func TestRuntimeWithoutSecurityModules(t *testing.T) {
	off := false
	r := labelled()
	r.Node.AppArmor, r.Options.AppArmorProfile = true, OwnAppArmorProfile
	r.Features = &features.Features{Linux: &features.Linux{Apparmor: &features.Apparmor{Enabled: &off}, Selinux: &features.Selinux{Enabled: &off}}}
	spec := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}
	load, err := r.AppArmor(spec.Process)
	if err != nil || load != "" || spec.Process.ApparmorProfile != "" {
		t.Errorf("by default: load %q, profile %q, %v", load, spec.Process.ApparmorProfile, err)
	}
	if err := r.SELinux(spec); err != nil || spec.Process.SelinuxLabel != "" || spec.Linux.MountLabel == "" {
		t.Errorf("by default: label %q, of files %q, %v", spec.Process.SelinuxLabel, spec.Linux.MountLabel, err)
	}
	r.Security.Apparmor = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "mine"}
	r.Found.AppArmor.Is = true
	if _, err := r.AppArmor(spec.Process); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("a profile: %v", err)
	}
	r.Security.SelinuxOptions = &cri.SELinuxOption{Type: "t"}
	if err := r.SELinux(spec); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("a label: %v", err)
	}
}
