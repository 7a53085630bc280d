package nri

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/api"
)

// updateWithin bounds an update that a plug-in asks for. Two containers whose creations
// update each other would wait without end.
const updateWithin = 10 * time.Second

// updater makes the updates of containers that plug-ins ask for.
type updater struct {
	source Source
	logger *slog.Logger
	// background are the updates that nobody waits for; ctx ends them.
	background sync.WaitGroup
	ctx        context.Context
	cancel     context.CancelFunc
}

func (u *updater) init(logger *slog.Logger) {
	u.logger = logger
	u.ctx, u.cancel = context.WithCancel(context.Background())
}

func (u *updater) close() {
	u.cancel()
	u.background.Wait()
}

// all makes updates in order, and returns those that failed. The library calls it for a
// plug-in that asks by itself.
func (u *updater) all(ctx context.Context, updates []*api.ContainerUpdate) (failed []*api.ContainerUpdate, err error) {
	err = guarded(func() error {
		var problems []error
		for _, update := range updates {
			if err := u.one(ctx, update); err != nil {
				problems = append(problems, err)
				failed = append(failed, update)
			}
		}
		return errors.Join(problems...)
	})
	return failed, err
}

// one makes one update. A failure that may be ignored is logged.
func (u *updater) one(ctx context.Context, update *api.ContainerUpdate) error {
	ctx, cancel := context.WithTimeout(ctx, updateWithin)
	defer cancel()
	change, err := toCRI(update.GetLinux().GetResources())
	if err == nil {
		err = u.source.Update(ctx, update.GetContainerId(), change)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("update container %q for an NRI plug-in: %w", update.GetContainerId(), err)
	if !update.GetIgnoreFailure() {
		return err
	}
	u.logger.Warn("an NRI plug-in's update failed, which it says to ignore", "error", err)
	return nil
}

// later makes updates that nobody waits for, in order.
func (u *updater) later(updates []*api.ContainerUpdate) {
	updates = slices.DeleteFunc(updates, func(update *api.ContainerUpdate) bool { return update == nil })
	if len(updates) == 0 {
		return
	}
	u.background.Go(func() {
		if _, err := u.all(u.ctx, updates); err != nil && u.ctx.Err() == nil {
			u.logger.Warn("updates for an NRI plug-in failed", "error", err)
		}
	})
}
