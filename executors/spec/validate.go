package spec

import (
	"fmt"
	"path"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ValidateContainer refuses what is wrong in a container's config whatever the node
// and the image are. The error is a FieldError.
func ValidateContainer(c *cri.ContainerConfig, s *cri.PodSandboxConfig) error {
	if c == nil {
		return invalid("config", nil, "is missing")
	}
	return firstError(
		func() error {
			if c.Metadata == nil {
				return invalid("metadata", nil, "is missing")
			}
			return checkName("metadata.name", c.Metadata.Name)
		},
		func() error {
			if c.Image.GetImage() == "" {
				return invalid("image.image", nil, "is empty")
			}
			return nil
		},
		func() error { return checkLogPath(c, s) },
		func() error { return checkStrings("command", c.Command) },
		func() error { return checkStrings("args", c.Args) },
		func() error {
			if c.WorkingDir != "" && !path.IsAbs(c.WorkingDir) {
				return invalid("working_dir", c.WorkingDir, "is not absolute")
			}
			return checkText("working_dir", c.WorkingDir)
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
			if len(c.CDIDevices) > 0 {
				return unsupported("CDI_devices", c.CDIDevices[0].GetName(), "can't be had: this runtime has no CDI yet")
			}
			if c.Windows != nil {
				return unsupported("windows", nil, "is for another operating system")
			}
			if _, ok := cri.Signal_name[int32(c.StopSignal)]; !ok {
				return invalid("stop_signal", int32(c.StopSignal), "is not a signal of the CRI's")
			}
			return nil
		},
		func() error { return checkResources("linux.resources", c.Linux.GetResources()) },
		func() error { return checkCPU("linux.resources", c.Linux.GetResources()) },
		func() error { return checkSecurity(c.Linux.GetSecurityContext(), s) },
	)
}

// firstError runs checks until one fails.
func firstError(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// maxName bounds names, in bytes; Kubernetes' own are at most 253.
const maxName = 253

// checkName refuses names that can't be one element of a path.
func checkName(field, name string) error {
	switch {
	case name == "":
		return invalid(field, nil, "is empty")
	case len(name) > maxName:
		return invalid(field, name, "is longer than %d bytes", maxName)
	case name == "." || name == ".." || strings.ContainsAny(name, "/\\"):
		return invalid(field, name, "has path elements")
	}
	return checkPrintable(field, name)
}

func checkPrintable(field, s string) error {
	for _, c := range []byte(s) {
		if c < ' ' || c == 0x7f {
			return invalid(field, s, "has a control character")
		}
	}
	return nil
}

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
		return invalid("log_path", c.LogPath, "is not a path within the pod's log directory")
	}
	return checkPrintable("log_path", c.LogPath)
}

// isBelow reports whether a path is relative and leads nowhere but to or below the
// place that it is relative to.
func isBelow(p string) bool {
	clean := path.Clean(p)
	return p != "" && !path.IsAbs(p) && clean != ".." && !strings.HasPrefix(clean, "../")
}

func checkStrings(field string, list []string) error {
	for i, s := range list {
		if err := checkText(fmt.Sprintf("%s[%d]", field, i), s); err != nil {
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
		return invalid(field, nil, "is missing")
	}
	if !path.IsAbs(m.ContainerPath) || path.Clean(m.ContainerPath) == "/" {
		return invalid(field+".container_path", m.ContainerPath, "is not an absolute path below the root directory")
	}
	if err := checkText(field+".container_path", m.ContainerPath); err != nil {
		return err
	}
	if m.Image.GetImage() != "" {
		if m.HostPath != "" {
			return invalid(field+".host_path", m.HostPath, "is given together with an image")
		}
		return checkImageMount(field, m)
	}
	if m.ImageSubPath != "" {
		return invalid(field+".image_sub_path", m.ImageSubPath, "is given without an image")
	}
	if !path.IsAbs(m.HostPath) {
		return invalid(field+".host_path", m.HostPath, "is not an absolute path")
	}
	if err := checkText(field+".host_path", m.HostPath); err != nil {
		return err
	}
	if len(m.UidMappings) > 0 || len(m.GidMappings) > 0 {
		return unsupported(field+".uidMappings", nil, "can't be applied: this runtime has no id-mapped mounts yet")
	}
	if _, ok := cri.MountPropagation_name[int32(m.Propagation)]; !ok {
		return invalid(field+".propagation", int32(m.Propagation), "is not a mode of the CRI's")
	}
	if m.RecursiveReadOnly {
		if !m.Readonly {
			return invalid(field+".recursive_read_only", nil, "is set, but readonly is not")
		}
		if m.Propagation != cri.MountPropagation_PROPAGATION_PRIVATE {
			return invalid(field+".recursive_read_only", nil, "needs private propagation")
		}
	}
	for _, option := range m.MountOptions {
		if !isMountOption(option) {
			return invalid(field+".mount_options", option, "is not one that restricts a bind mount")
		}
	}
	return nil
}

// checkImageMount checks a mount of an image, which can be had read-only alone (KEP-4639).
// Whether the sub path exists, only the image knows.
func checkImageMount(field string, m *cri.Mount) error {
	if err := checkText(field+".image", m.Image.Image); err != nil {
		return err
	}
	if err := checkText(field+".image_sub_path", m.ImageSubPath); err != nil {
		return err
	}
	if m.ImageSubPath != "" && !isBelow(m.ImageSubPath) {
		return invalid(field+".image_sub_path", m.ImageSubPath, "is not a relative path below the image's root directory")
	}
	if !m.Readonly {
		return invalid(field+".readonly", false, "is not possible: images are mounted read-only")
	}
	if m.Propagation != cri.MountPropagation_PROPAGATION_PRIVATE {
		return invalid(field+".propagation", m.Propagation, "can't be had for an image")
	}
	if len(m.UidMappings) > 0 || len(m.GidMappings) > 0 {
		return unsupported(field+".uidMappings", nil, "can't be applied: this runtime has no id-mapped mounts yet")
	}
	for _, option := range m.MountOptions {
		if !isMountOption(option) {
			return invalid(field+".mount_options", option, "is not one that restricts a bind mount")
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
			return invalid(field+".host_path", d.GetHostPath(), "is not an absolute path")
		}
		if !path.IsAbs(d.GetContainerPath()) || path.Clean(d.GetContainerPath()) == "/" {
			return invalid(field+".container_path", d.GetContainerPath(), "is not an absolute path below the root directory")
		}
		if err := checkText(field+".container_path", d.GetContainerPath()); err != nil {
			return err
		}
		if strings.Trim(d.GetPermissions(), "rwm") != "" {
			return invalid(field+".permissions", d.GetPermissions(), "has other letters than r, w and m")
		}
	}
	return nil
}
