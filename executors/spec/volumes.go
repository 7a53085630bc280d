package spec

import (
	"maps"
	"path"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// FieldVolumes is the field of a FieldError about a volume that the image declares.
const FieldVolumes = "the image's volume"

// planVolumes gives each volume that the image declares a directory of its own,
// filled with what the image has in its place. A volume at or below a mount that
// the pod asks for is not made: it would hide a part of the user's data. Nor is
// one in the kernel's directories, or at the root, which builders let through.
func planVolumes(r *request, plan *Plan, taken []specs.Mount) ([]specs.Mount, error) {
	var mounts []specs.Mount
	uid, _ := r.users.UID(plan.Spec.Process.User.UID)
	gid, _ := r.users.GID(plan.Spec.Process.User.GID)
	// The order, and with it the number that names the directory, follows from
	// the image alone, so that a second plan has the same.
	for n, volume := range slices.Sorted(maps.Keys(r.image.Volumes)) {
		if err := refusal.CheckText(FieldVolumes, volume); err != nil {
			return nil, err
		}
		dest := path.Clean("/" + volume)
		// An image may declare "/data" and "/data/".
		again := slices.ContainsFunc(mounts, func(m specs.Mount) bool { return m.Destination == dest })
		if again || dest == "/" || isKernelDir(dest) || slices.ContainsFunc(taken, func(m specs.Mount) bool { return covers(m.Destination, dest) }) {
			continue
		}
		switch r.Options.ImageVolumes {
		case IgnoreImageVolumes:
			continue
		case MakeImageVolumes:
			plan.Steps = append(plan.Steps, MakeWorkingDir{Field: FieldVolumes, Rootfs: r.Rootfs, Path: dest, UID: uid, GID: gid})
			continue
		case BindImageVolumes:
		}
		dir := path.Join(r.VolumesDir, strconv.Itoa(n))
		plan.Steps = append(plan.Steps, FillVolume{Rootfs: r.Rootfs, Path: dest, Dir: dir, UID: uid, GID: gid})
		if label := plan.Spec.Linux.MountLabel; label != "" {
			plan.Steps = append(plan.Steps, Relabel{Path: dir, Label: label})
		}
		mounts = append(mounts, bind(dir, dest, "rprivate", "rw"))
	}
	return mounts, nil
}
