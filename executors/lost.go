package executors

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// KillContainer kills every process of a container that no monitor watches. What
// is gone already is no error.
func (x *Executor) KillContainer(ctx context.Context, s container.State) error {
	return x.kill(ctx, container.Spec{ID: s.ID, Handler: s.Request.Handler})
}

// KillHolder is KillContainer for the holder of a pod's PID namespace; with it,
// the kernel kills every process in the namespace.
func (x *Executor) KillHolder(ctx context.Context, s sandbox.State) error {
	runtime, err := x.runtime(s.Handler)
	if err != nil {
		return err
	}
	return runtime.Kill(ctx, x.holder(sandbox.Pod{ID: s.ID}), unix.SIGKILL, true)
}
