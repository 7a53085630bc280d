package config

import (
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
)

// Runtime lists the OCI runtimes and what applies to all of them.
type Runtime struct {
	// Default is the handler of a pod that names none; empty: the first by name.
	Default string `toml:"default"`
	// CgroupDriver is cgroupfs or systemd; empty means cgroupfs.
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
	// Handlers maps the name of each handler to its runtime; without any there is
	// runc, from PATH.
	Handlers map[string]Handler `toml:"handlers"`
}

// Handler is an OCI runtime.
type Handler struct {
	// Path is the OCI runtime, absolute or to be found in PATH.
	Path string `toml:"path"`
	// AllowedAnnotations are the annotations by which a pod may ask the daemon for something;
	// all others have no effect.
	AllowedAnnotations []string `toml:"allowed_annotations"`
}

// handlerName matches names that are safe as a directory's.
var handlerName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`)

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
	for _, name := range slices.Sorted(maps.Keys(r.Handlers)) {
		h := r.Handlers[name]
		problems = append(problems, h.complete(name))
		r.Handlers[name] = h
	}
	return errors.Join(problems...)
}

func (h *Handler) complete(name string) error {
	if !handlerName.MatchString(name) {
		return refuse("runtime.handlers", name, "is not a handler's name: letters, digits, '_', '.' and '-', at most 63")
	}
	if err := h.checkAnnotations(name); err != nil {
		return err
	}
	key := "runtime.handlers." + name + ".path"
	path, err := exec.LookPath(h.Path)
	if err != nil {
		return refuse(key, h.Path, "cannot be run: %w", errors.Unwrap(err))
	}
	h.Path = path
	return absolute(key, &h.Path)
}
