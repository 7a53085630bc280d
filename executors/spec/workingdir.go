package spec

import (
	"path"
	"strings"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// workingDir returns the container's working directory, or else the image's, as a
// clean, absolute path; and the field that it is from.
func (r *request) workingDir() (field, dir string) {
	field, dir = "working_dir", r.Container.WorkingDir
	if dir == "" {
		field, dir = "the image's working directory", r.image.WorkingDir
	}
	return field, path.Clean("/" + dir)
}

// planWorkingDir has the working directory made in the root file system, unless it
// is in a volume: there, only the runtime can see what exists.
func planWorkingDir(r *request, plan *Plan) error {
	field, dir := r.workingDir()
	if err := refusal.CheckText(field, dir); err != nil {
		return err
	}
	plan.Spec.Process.Cwd = dir
	if dir == "/" {
		return nil
	}
	for _, m := range plan.Spec.Mounts {
		if covers(m.Destination, dir) && !isKernelDir(m.Destination) {
			return nil
		}
	}
	place := r.found.WorkingDir
	if place.Err != nil {
		return refusal.Invalid(field, dir, "can't be resolved in the image: %v", place.Err)
	}
	if !path.IsAbs(place.Path) {
		return refusal.Unanswered(field)
	}
	if covers("/proc", place.Path) || covers("/dev/fd", place.Path) {
		// Descriptors that a runtime had open were a way to the node's file
		// system (CVE-2024-21626).
		return refusal.Invalid(field, dir, "leads to %s, which is not a place to work in", place.Path)
	}
	uid, gid := r.users.Root()
	plan.Steps = append(plan.Steps, MakeWorkingDir{Field: field, Rootfs: r.Rootfs, Path: dir, UID: uid, GID: gid})
	return nil
}

// covers reports whether path is dir or below it. Both are clean.
func covers(dir, path string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// isKernelDir reports whether a mount shows the kernel's state: nothing is made
// there, and nothing is expected to be there before the mount.
func isKernelDir(dest string) bool {
	return covers("/proc", dest) || covers("/sys", dest) || covers("/dev", dest)
}
