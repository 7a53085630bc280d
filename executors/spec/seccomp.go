package spec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	fieldSeccomp           = "linux.security_context.seccomp"
	fieldSeccompDeprecated = "linux.security_context.seccomp_profile_path"
)

// maxSeccompProfile bounds a profile on the node, in bytes; the default profile
// has 20 KiB.
const maxSeccompProfile = 1 << 20

// seccomp restricts system calls. Neither field set is unconfined, as the CRI
// says; the kubelet always sets one.
func (b *builder) seccomp() error {
	profile, field := b.sec.Seccomp, fieldSeccomp
	if profile == nil {
		profile, field = deprecatedProfile(b.sec.SeccompProfilePath), fieldSeccompDeprecated
	}
	if b.sec.Privileged || profile.ProfileType == cri.SecurityProfile_Unconfined {
		return nil
	}
	if !b.canSeccomp() {
		return unsupported(field, profile.ProfileType, "can't be applied: the kernel or the runtime has no seccomp")
	}
	var err error
	switch profile.ProfileType {
	case cri.SecurityProfile_RuntimeDefault:
		b.spec.Linux.Seccomp, err = seccomp.GetDefaultProfile(b.spec)
	case cri.SecurityProfile_Localhost:
		b.spec.Linux.Seccomp, err = loadSeccomp(profile.LocalhostRef, b.spec)
	}
	if err != nil {
		return invalid(field, profile.LocalhostRef, "can't be used: %v", err)
	}
	return nil
}

func (b *builder) canSeccomp() bool {
	if !b.in.Host.Seccomp {
		return false
	}
	f := b.in.Features
	if f == nil || f.Linux == nil || f.Linux.Seccomp == nil || f.Linux.Seccomp.Enabled == nil {
		// The runtime doesn't say. One that can't will fail to create.
		return true
	}
	return *f.Linux.Seccomp.Enabled
}

// deprecatedProfile reads the string form of a profile, which the CRI had before
// SecurityProfile. ValidateContainer has seen to it that there is no other.
func deprecatedProfile(s string) *cri.SecurityProfile {
	if ref, ok := strings.CutPrefix(s, "localhost/"); ok {
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: ref}
	}
	if s == "runtime/default" || s == "docker/default" {
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
	}
	return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}
}

func loadSeccomp(path string, spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	body, err := readBounded(file, maxSeccompProfile)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	profile, err := seccomp.LoadProfile(string(body), spec)
	if err == nil && profile == nil {
		err = errors.New("the profile is empty")
	}
	return profile, err
}

// checkProfilePath checks the path of a profile on the node.
func checkProfilePath(field, path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.Contains(path, "\x00") {
		return invalid(field, path, "is not an absolute, clean path")
	}
	return nil
}
