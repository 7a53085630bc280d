package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/go-units"
)

// Runtime lists the OCI runtimes and what applies to all of them.
type Runtime struct {
	// Default is the handler of a pod that names none; empty: the first by name.
	Default string `toml:"default"`
	// CgroupDriver is cgroupfs or systemd; empty means systemd where it runs the node.
	CgroupDriver string `toml:"cgroup_driver"`
	// MaxLogSize is the size in bytes at which a container's log is truncated, 0 for no
	// limit. The kubelet rotates logs by itself.
	MaxLogSize int64 `toml:"max_log_size"`
	// HooksDir are directories of OCI hooks. A file hides those of its name in earlier ones.
	HooksDir []string `toml:"hooks_dir"`
	// MinimumMappableUID and MinimumMappableGID are the lowest ids of the node that a pod may
	// name in the annotation for its user namespace, as with CRI-O; -1: see package usermode.
	MinimumMappableUID int64 `toml:"minimum_mappable_uid"`
	MinimumMappableGID int64 `toml:"minimum_mappable_gid"`
	// SeccompNativeOnly makes the profile of RuntimeDefault one for the node's own architecture
	// alone, where the image's is that.
	SeccompNativeOnly bool `toml:"seccomp_native_only"`
	// The keys from here to the handlers have CRI-O's names and meanings.

	// DefaultUlimits are the limits of every container, as NAME=SOFT:HARD.
	DefaultUlimits []string `toml:"default_ulimits"`
	// PidsLimit is how many processes and threads a container may have; 0, or CRI-O's -1, for no
	// limit but the pod's.
	PidsLimit int64 `toml:"pids_limit"`
	// DefaultCapabilities are those of a container that asks for no others; nil for Stele's own.
	DefaultCapabilities []string `toml:"default_capabilities"`
	// AddInheritableCapabilities makes them inheritable, too, as before CVE-2022-27652.
	AddInheritableCapabilities bool `toml:"add_inheritable_capabilities"`
	// DefaultEnv is the environment of every container, as KEY=VALUE, before the image's.
	DefaultEnv []string `toml:"default_env"`
	// SeccompProfile is a file that replaces the profile that RuntimeDefault means; empty for
	// Stele's own.
	SeccompProfile string `toml:"seccomp_profile"`
	// PrivilegedSeccompProfile is that of privileged containers; empty for none.
	PrivilegedSeccompProfile string `toml:"privileged_seccomp_profile"`
	// ApparmorProfile is the name of the profile that RuntimeDefault means; empty for Stele's
	// own, which is loaded when it is needed, "unconfined" for none.
	ApparmorProfile string `toml:"apparmor_profile"`
	Confinement
	// AdditionalDevices are in every container, as HOST:CONTAINER:PERMISSIONS.
	AdditionalDevices []string `toml:"additional_devices"`
	// AllowedDevices are those that pods may ask for by annotation.
	AllowedDevices []string `toml:"allowed_devices"`
	// DeviceOwnershipFromSecurityContext gives devices to the container's user and group.
	DeviceOwnershipFromSecurityContext bool `toml:"device_ownership_from_security_context"`
	// ShmSize is the size of pods' /dev/shm, as "128m"; empty for 64 MiB.
	ShmSize string `toml:"shm_size"`
	// ImageVolumes says what becomes of volumes that images declare: bind, mkdir or ignore.
	ImageVolumes string `toml:"image_volumes"`
	// AbsentMountSourcesToReject are paths that are not made if a pod mounts them.
	AbsentMountSourcesToReject []string `toml:"absent_mount_sources_to_reject"`
	// Timezone of all containers: a name of the time zone database, "local" for the node's, or
	// empty for the images'.
	Timezone string `toml:"timezone"`
	// ReadOnly makes all root file systems read-only.
	ReadOnly bool `toml:"read_only"`
	Mounts
	// CDISpecDirs are directories of the Container Device Interface's specifications.
	CDISpecDirs []string `toml:"cdi_spec_dirs"`
	// Handlers maps the name of each handler to its runtime; without any there is
	// runc, from PATH.
	Handlers map[string]Handler `toml:"handlers"`
}

// Handler is an OCI runtime.
type Handler struct {
	// Path is the OCI runtime, absolute or to be found in PATH. It need not be there yet.
	Path string `toml:"path"`
	// Type is empty or "oci"; runtimes with another interface are not supported.
	Type string `toml:"runtime_type"`
	// InheritDefaultRuntime takes path and type from the default handler.
	InheritDefaultRuntime bool `toml:"inherit_default_runtime"`
	// PlatformRuntimePaths are the runtimes for images of other platforms, by OS/ARCHITECTURE as
	// the image has it. As Path, they need not be there yet.
	PlatformRuntimePaths map[string]string `toml:"platform_runtime_paths"`
	// Root is the runtime's own directory; empty for one below the state directory.
	Root string `toml:"runtime_root"`
	// AllowedAnnotations are the exact keys of annotations that pods of this handler may use,
	// and that reach the runtime.
	AllowedAnnotations []string `toml:"allowed_annotations"`
	// DefaultAnnotations reach the runtime with each container.
	DefaultAnnotations map[string]string `toml:"default_annotations"`
	// PrivilegedWithoutHostDevices keeps the node's devices from privileged containers.
	PrivilegedWithoutHostDevices bool `toml:"privileged_without_host_devices"`
	// PrivilegedWithoutHostDevicesAllDevicesAllowed lets them use all devices nevertheless, if they
	// make them. The key is containerd's.
	PrivilegedWithoutHostDevicesAllDevicesAllowed bool `toml:"privileged_without_host_devices_all_devices_allowed"`
	// ContainerMinMemory is the least memory limit that the runtime starts with, as "12MiB";
	// empty for what is known of it.
	ContainerMinMemory string `toml:"container_min_memory"`
	// ContainerCreateTimeout is how long a creation may take, in seconds; 0 for the monitor's
	// default.
	ContainerCreateTimeout int64 `toml:"container_create_timeout"`
	// SeccompProfile is as runtime.seccomp_profile, for this handler.
	SeccompProfile string `toml:"seccomp_profile"`
}

// handlerName matches names that are safe as a directory's.
var handlerName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`)

// platformName matches OS/ARCHITECTURE.
var platformName = regexp.MustCompile(`^[a-zA-Z0-9]+/[a-zA-Z0-9_]+$`)

func (r *Runtime) complete() error {
	if len(r.Handlers) == 0 {
		r.Handlers = map[string]Handler{"runc": {Path: "runc"}}
	}
	if r.Default == "" {
		r.Default = slices.Min(slices.Collect(maps.Keys(r.Handlers)))
	}
	var problems []error
	if _, ok := r.Handlers[r.Default]; !ok {
		problems = append(problems, refuse("runtime.default", r.Default, "is not among the handlers"))
	}
	if !slices.Contains([]string{"", "cgroupfs", "systemd"}, r.CgroupDriver) {
		problems = append(problems, refuse("runtime.cgroup_driver", r.CgroupDriver, "is neither cgroupfs nor systemd"))
	}
	if r.MaxLogSize < 0 {
		problems = append(problems, refuse("runtime.max_log_size", r.MaxLogSize, "is negative"))
	}
	problems = append(problems, r.checkMinimums())
	for i, path := range r.HooksDir {
		key := fmt.Sprintf("runtime.hooks_dir[%d]", i)
		if path == "" {
			problems = append(problems, refuse(key, path, "is not a path"))
		}
		problems = append(problems, dir(key, path))
	}
	problems = append(problems, r.checkContainers()...)
	for _, name := range slices.Sorted(maps.Keys(r.Handlers)) {
		h := r.Handlers[name]
		if h.InheritDefaultRuntime {
			h.Path, h.Type = r.Handlers[r.Default].Path, r.Handlers[r.Default].Type
		}
		problems = append(problems, h.complete(name))
		r.Handlers[name] = h
	}
	return errors.Join(problems...)
}

func (h *Handler) complete(name string) error {
	if !handlerName.MatchString(name) {
		return refuse("runtime.handlers", name, "is not a handler's name: letters, digits, '_', '.' and '-', at most 63")
	}
	key := "runtime.handlers." + name
	if h.Path == "" {
		return refuse(key+".path", h.Path, "is not a path")
	}
	var err error
	if h.Path, err = program(key+".path", h.Path); err != nil {
		return err
	}
	for _, platform := range slices.Sorted(maps.Keys(h.PlatformRuntimePaths)) {
		of := key + ".platform_runtime_paths." + platform
		path := h.PlatformRuntimePaths[platform]
		switch {
		case !platformName.MatchString(platform):
			return refuse(key+".platform_runtime_paths", platform, "is not a platform, as in \"wasi/wasm32\"")
		case path == "":
			return refuse(of, path, "is not a path")
		}
		if h.PlatformRuntimePaths[platform], err = program(of, path); err != nil {
			return err
		}
	}
	return errors.Join(h.check(key)...)
}

// program finds a runtime. One that is missing makes its handler unusable, not the node.
func program(key, path string) (string, error) {
	if found, err := exec.LookPath(path); err == nil {
		path = found
	}
	if !strings.Contains(path, "/") {
		return path, nil
	}
	err := absolute(key, &path)
	return path, err
}

func (h *Handler) check(key string) []error {
	problems := []error{isAbsolute(key+".runtime_root", h.Root), file(key+".seccomp_profile", h.SeccompProfile)}
	if h.Type != "" && h.Type != "oci" {
		problems = append(problems, refuse(key+".runtime_type", h.Type, "is not supported; there is oci"))
	}
	for i, name := range h.AllowedAnnotations {
		if !isAnnotation(name) {
			problems = append(problems, refuse(fmt.Sprintf("%s.allowed_annotations[%d]", key, i), name, "is not the key of an annotation"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.DefaultAnnotations)) {
		if !isAnnotation(name) {
			problems = append(problems, refuse(key+".default_annotations", name, "is not the key of an annotation"))
		}
	}
	if _, err := h.MinMemory(); err != nil {
		problems = append(problems, refuse(key+".container_min_memory", h.ContainerMinMemory, "is not a size, as in \"12MiB\""))
	}
	if h.PrivilegedWithoutHostDevicesAllDevicesAllowed && !h.PrivilegedWithoutHostDevices {
		problems = append(problems, refuse(key+".privileged_without_host_devices_all_devices_allowed", true, "needs privileged_without_host_devices"))
	}
	if h.ContainerCreateTimeout < 0 {
		problems = append(problems, refuse(key+".container_create_timeout", h.ContainerCreateTimeout, "is negative"))
	}
	return problems
}

// MinMemory is ContainerMinMemory in bytes, 0 if it is empty.
func (h *Handler) MinMemory() (int64, error) {
	if h.ContainerMinMemory == "" {
		return 0, nil
	}
	return units.RAMInBytes(h.ContainerMinMemory)
}

// isAnnotation accepts what Kubernetes does, without its bound on lengths.
func isAnnotation(key string) bool {
	return key != "" && !strings.ContainsAny(key, " \t\r\n\x00=,*")
}

// RuntimeRoots maps each handler to the directory in which its runtime keeps what it knows of
// containers.
func (c *Config) RuntimeRoots() map[string]string {
	roots := map[string]string{}
	for name, h := range c.Runtime.Handlers {
		roots[name] = cmp.Or(h.Root, filepath.Join(c.State, "runtimes", name))
	}
	return roots
}
