package spec

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	fieldAppArmor           = "linux.security_context.apparmor"
	fieldAppArmorDeprecated = "linux.security_context.apparmor_profile"
)

// apparmor names the profile that the process is confined by. A profile of the
// node's that the pod names must be there: to run without it would be a breach.
func (b *builder) apparmor() error {
	profile, field := b.sec.Apparmor, fieldAppArmor
	if profile == nil {
		profile, field = deprecatedAppArmor(b.sec.ApparmorProfile), fieldAppArmorDeprecated
	}
	if b.sec.Privileged {
		return nil
	}
	switch profile.ProfileType {
	case cri.SecurityProfile_RuntimeDefault:
		if b.in.Host.AppArmor {
			b.spec.Process.ApparmorProfile = b.in.Options.AppArmorProfile
		}
	case cri.SecurityProfile_Localhost:
		if !b.in.Host.AppArmor {
			return unsupported(field, profile.LocalhostRef, "can't be applied: the node has no AppArmor")
		}
		loaded, err := appArmorLoaded(profile.LocalhostRef)
		if err != nil {
			return fmt.Errorf("look for the AppArmor profile %q: %w", profile.LocalhostRef, err)
		}
		if !loaded {
			return invalid(field, profile.LocalhostRef, "is not loaded on the node")
		}
		b.spec.Process.ApparmorProfile = profile.LocalhostRef
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

// maxAppArmorProfiles bounds the kernel's list of profiles, in bytes.
const maxAppArmorProfiles = 16 << 20

func appArmorLoaded(name string) (bool, error) {
	f, err := os.Open("/sys/kernel/security/apparmor/profiles")
	if err != nil {
		return false, err
	}
	defer f.Close()
	return listsProfile(io.LimitReader(f, maxAppArmorProfiles), name)
}

// listsProfile looks for a line "NAME (MODE)".
func listsProfile(r io.Reader, name string) (bool, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if i := strings.LastIndex(line, " ("); i >= 0 && line[:i] == name {
			return true, nil
		}
	}
	return false, lines.Err()
}
