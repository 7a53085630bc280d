package spec

import (
	"fmt"
	"path"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
	"github.com/stele-runtime/stele/executors/spec/userns"
)

// ValidateContainer refuses what is wrong in a container's config whatever the node
// and the image are. The error is a FieldError.
func ValidateContainer(c *cri.ContainerConfig, s *cri.PodSandboxConfig) error {
	if c == nil {
		return refusal.Invalid("config", nil, "is missing")
	}
	return refusal.First(
		func() error {
			if c.Metadata == nil {
				return refusal.Invalid("metadata", nil, "is missing")
			}
			return refusal.CheckName("metadata.name", c.Metadata.Name)
		},
		func() error {
			if c.Image.GetImage() == "" {
				return refusal.Invalid("image.image", nil, "is empty")
			}
			return nil
		},
		func() error { return checkLogPath(c, s) },
		func() error { return checkStrings("command", c.Command) },
		func() error { return checkStrings("args", c.Args) },
		func() error {
			if c.WorkingDir != "" && !path.IsAbs(c.WorkingDir) {
				return refusal.Invalid("working_dir", c.WorkingDir, "is not absolute")
			}
			return refusal.CheckText("working_dir", c.WorkingDir)
		},
		func() error {
			for i, kv := range c.Envs {
				if err := checkEnv(fmt.Sprintf("envs[%d]", i), kv.GetKey(), string(kv.GetValue())); err != nil {
					return err
				}
			}
			return nil
		},
		func() error { return checkMounts(c.Mounts) },
		func() error { return checkDevices(c.Devices) },
		func() error {
			if c.Windows != nil {
				return refusal.Unsupported("windows", nil, "is for another operating system")
			}
			if _, ok := cri.Signal_name[int32(c.StopSignal)]; !ok {
				return refusal.Invalid("stop_signal", int32(c.StopSignal), "is not a signal of the CRI's")
			}
			return nil
		},
		func() error { return checkResources("linux.resources", c.Linux.GetResources()) },
		func() error { return checkCPU("linux.resources", c.Linux.GetResources()) },
		func() error { return checkSwap("linux.resources", c.Linux.GetResources()) },
		func() error { return checkSecurity(c.Linux.GetSecurityContext(), s) },
	)
}

// maxPath is the kernel's PATH_MAX, in bytes.
const maxPath = 4096

// checkLogPath keeps the log in the pod's log directory (CVE-2025-0750).
func checkLogPath(c *cri.ContainerConfig, s *cri.PodSandboxConfig) error {
	if c.LogPath == "" {
		return nil
	}
	if s.GetLogDirectory() == "" {
		// Without a directory to be relative to there is no log.
		return nil
	}
	if !isBelow(c.LogPath) || path.Clean(c.LogPath) != c.LogPath || c.LogPath == "." {
		return refusal.Invalid("log_path", c.LogPath, "is not a path within the pod's log directory")
	}
	if len(c.LogPath) > maxPath {
		return refusal.Invalid("log_path", c.LogPath, "is longer than the kernel's %d bytes", maxPath)
	}
	return refusal.CheckPrintable("log_path", c.LogPath)
}

// isBelow reports whether a path is relative and leads nowhere but to or below the
// place that it is relative to.
func isBelow(p string) bool {
	clean := path.Clean(p)
	return p != "" && !path.IsAbs(p) && clean != ".." && !strings.HasPrefix(clean, "../")
}

func checkStrings(field string, list []string) error {
	for i, s := range list {
		if err := refusal.CheckText(fmt.Sprintf("%s[%d]", field, i), s); err != nil {
			return err
		}
	}
	return nil
}

func checkMounts(mounts []*cri.Mount) error {
	for i, m := range mounts {
		if err := checkMount(fmt.Sprintf("mounts[%d]", i), m); err != nil {
			return err
		}
	}
	return nil
}

func checkMount(field string, m *cri.Mount) error {
	if m == nil {
		return refusal.Invalid(field, nil, "is missing")
	}
	if !path.IsAbs(m.ContainerPath) || path.Clean(m.ContainerPath) == "/" {
		return refusal.Invalid(field+".container_path", m.ContainerPath, "is not an absolute path below the root directory")
	}
	if err := refusal.CheckText(field+".container_path", m.ContainerPath); err != nil {
		return err
	}
	if err := refusal.CheckNoProcess(field+".container_path", m.ContainerPath); err != nil {
		return err
	}
	if m.Image.GetImage() != "" {
		if m.HostPath != "" {
			return refusal.Invalid(field+".host_path", m.HostPath, "is given together with an image")
		}
		return checkImageMount(field, m)
	}
	if m.ImageSubPath != "" {
		return refusal.Invalid(field+".image_sub_path", m.ImageSubPath, "is given without an image")
	}
	if !path.IsAbs(m.HostPath) {
		return refusal.Invalid(field+".host_path", m.HostPath, "is not an absolute path")
	}
	if err := refusal.CheckText(field+".host_path", m.HostPath); err != nil {
		return err
	}
	if err := checkMappings(field, m); err != nil {
		return err
	}
	if _, ok := cri.MountPropagation_name[int32(m.Propagation)]; !ok {
		return refusal.Invalid(field+".propagation", int32(m.Propagation), "is not a mode of the CRI's")
	}
	if m.RecursiveReadOnly {
		if !m.Readonly {
			return refusal.Invalid(field+".recursive_read_only", nil, "is set, but readonly is not")
		}
		if m.Propagation != cri.MountPropagation_PROPAGATION_PRIVATE {
			return refusal.Invalid(field+".recursive_read_only", nil, "needs private propagation")
		}
	}
	for _, option := range m.MountOptions {
		if !isMountOption(option) {
			return refusal.Invalid(field+".mount_options", option, "is not one that restricts a bind mount")
		}
	}
	return nil
}

// checkMappings checks those of a volume: both or none, and each as a pod's.
func checkMappings(field string, m *cri.Mount) error {
	if len(m.UidMappings) == 0 && len(m.GidMappings) == 0 {
		return nil
	}
	return refusal.First(
		func() error { return userns.CheckRanges(field+".uidMappings", m.UidMappings) },
		func() error { return userns.CheckRanges(field+".gidMappings", m.GidMappings) },
	)
}

// checkImageMount checks a mount of an image, which can be had read-only alone (KEP-4639).
// Whether the sub path exists, only the image knows.
func checkImageMount(field string, m *cri.Mount) error {
	if err := refusal.CheckText(field+".image", m.Image.Image); err != nil {
		return err
	}
	if err := refusal.CheckText(field+".image_sub_path", m.ImageSubPath); err != nil {
		return err
	}
	if m.ImageSubPath != "" && !isBelow(m.ImageSubPath) {
		return refusal.Invalid(field+".image_sub_path", m.ImageSubPath, "is not a relative path below the image's root directory")
	}
	if !m.Readonly {
		return refusal.Invalid(field+".readonly", false, "is not possible: images are mounted read-only")
	}
	if m.Propagation != cri.MountPropagation_PROPAGATION_PRIVATE {
		return refusal.Invalid(field+".propagation", m.Propagation, "can't be had for an image")
	}
	if err := checkMappings(field, m); err != nil {
		return err
	}
	for _, option := range m.MountOptions {
		if !isMountOption(option) {
			return refusal.Invalid(field+".mount_options", option, "is not one that restricts a bind mount")
		}
	}
	return nil
}

// isMountOption accepts options that restrict. Others could undo the mode, the
// propagation, or the node's own nosuid.
func isMountOption(option string) bool {
	switch strings.TrimPrefix(option, "r") {
	case "noexec", "nodev", "nosuid", "noatime", "nodiratime", "nosymfollow":
		return true
	}
	return option == "relatime" || option == "ro"
}

func checkDevices(devices []*cri.Device) error {
	for i, d := range devices {
		field := fmt.Sprintf("devices[%d]", i)
		if !path.IsAbs(d.GetHostPath()) {
			return refusal.Invalid(field+".host_path", d.GetHostPath(), "is not an absolute path")
		}
		if !path.IsAbs(d.GetContainerPath()) || path.Clean(d.GetContainerPath()) == "/" {
			return refusal.Invalid(field+".container_path", d.GetContainerPath(), "is not an absolute path below the root directory")
		}
		if err := refusal.CheckText(field+".container_path", d.GetContainerPath()); err != nil {
			return err
		}
		if err := refusal.CheckNoProcess(field+".container_path", d.GetContainerPath()); err != nil {
			return err
		}
		if strings.Trim(d.GetPermissions(), "rwm") != "" {
			return refusal.Invalid(field+".permissions", d.GetPermissions(), "has other letters than r, w and m")
		}
	}
	return nil
}
