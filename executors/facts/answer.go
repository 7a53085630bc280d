package facts

import (
	"fmt"
	"os"

	"github.com/opencontainers/selinux/go-selinux"

	"github.com/stele-runtime/stele/executors/apparmor"
	"github.com/stele-runtime/stele/executors/spec"
)

const (
	// maxAccountFile bounds /etc/passwd and /etc/group of an image, in bytes
	// (CVE-2025-4437, CVE-2026-47262).
	maxAccountFile = 16 << 20
	// maxSeccompProfile bounds a profile on the node, in bytes; the default profile
	// has 20 KiB.
	maxSeccompProfile = 1 << 20
)

// Answer looks at the node for what a plan needs to know. What can't be found out
// is an error in its answer.
func Answer(q spec.Questions) spec.Answers {
	found := spec.Answers{
		Passwd:    readInRoot(q.Rootfs, "/etc/passwd", maxAccountFile),
		Group:     readInRoot(q.Rootfs, "/etc/group", maxAccountFile),
		HostPaths: map[string]spec.HostPath{},
		Devices:   map[string]spec.Devices{},

		DefaultMounts: map[string]spec.HostPath{},
	}
	found.NoMtab = lacksMtab(q.Rootfs)
	found.Hostname.Value, found.Hostname.Err = os.Hostname()
	if q.WorkingDir != "" {
		found.WorkingDir = resolveInRoot(q.Rootfs, q.WorkingDir)
	}
	for _, p := range q.HostPaths {
		host := resolveBelow(q.HostRoot, p.Path)
		if p.Mount && host.Err == nil {
			host.Mount = mountOf(host.Path)
		}
		found.HostPaths[p.Path] = host
	}
	for _, path := range q.DefaultMounts {
		found.DefaultMounts[path] = resolve(path)
	}
	for _, path := range q.Devices {
		found.Devices[path] = devicesAt(path)
	}
	if q.AllDevices {
		found.AllDevices = allDevices("/dev")
	}
	for _, label := range q.Labels {
		if err := CheckLabel(label); err != nil {
			found.Labels = err
		}
	}
	if q.SeccompProfile != "" {
		found.Seccomp = ReadSeccomp(q.SeccompProfile)
	}
	if q.AppArmorProfile != "" {
		found.AppArmor.Is, found.AppArmor.Err = apparmor.Loaded(q.AppArmorProfile)
	}
	return found
}

// CheckLabel returns an error for an SELinux label that is not in the node's policy. An empty one
// is none at all.
func CheckLabel(label string) error {
	if label == "" {
		return nil
	}
	if err := selinux.SecurityCheckContext(label); err != nil {
		return fmt.Errorf("%s is not in the node's policy: %w", label, err)
	}
	return nil
}
