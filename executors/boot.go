package executors

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/executors/volumes"
)

// KillContainer kills every process of a container that no monitor watches. One that
// is gone is no error.
func (x *Executor) KillContainer(ctx context.Context, s container.State) error {
	return x.containers.kill(ctx, container.SpecOf(s))
}

// KillHolder is KillContainer for the holder of a pod's PID namespace; with it,
// the kernel kills every process in the namespace.
func (x *Executor) KillHolder(ctx context.Context, s sandbox.State) error {
	runtime, err := x.runtime(s.Handler)
	if err != nil {
		return err
	}
	return runtime.Kill(ctx, x.pods.holder(sandbox.Pod{ID: s.ID, Config: s.Config}), unix.SIGKILL, true)
}

// CollectContainers removes, after a reboot of the node, what unknown containers
// left on the disk, and returns their ids: their root file systems (see
// Rootfses.Collect of package storage) and what they wrote to the volumes of their
// images.
func (x *Executor) CollectContainers(ctx context.Context, known func(id string) bool) (removed []string, err error) {
	removed, err = x.Store.Rootfses.Collect(ctx, known)
	more, volumesErr := volumes.Collect(x.volumesDir(), known)
	removed = append(removed, more...)
	slices.Sort(removed)
	return slices.Compact(removed), errors.Join(err, volumesErr)
}
