package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/node"
	"github.com/stele-runtime/stele/executors"
	"github.com/stele-runtime/stele/executors/cni"
	"github.com/stele-runtime/stele/projections"
)

// gcWithin bounds CNI's garbage collection at the start; plugins may hang.
const gcWithin = 30 * time.Second

// boot gives the actors their past and settles it with what the kernel and the
// monitor say is true now.
func boot(ctx context.Context, actors *node.Node, feed *projections.Feed, x *executors.Executor, d *drivers, logger *slog.Logger) error {
	bootID, err := readBootID()
	if err != nil {
		return err
	}
	past := feed.Live.Past()
	watched, err := d.watched(ctx)
	if err != nil {
		return err
	}
	// Before anything is attached or detached: the CNI specification has GC alone.
	collectNetworks(ctx, d, feed.Live, logger)
	if past.Host.State.BootID != bootID {
		collectContainers(ctx, x, feed.Live, logger)
	}
	err = actors.Boot(ctx, past, host.StartDaemon{
		BootID: bootID, Version: version, PID: os.Getpid(), At: time.Now().UTC(),
	})
	if err != nil {
		return err
	}
	for stream, reason := range feed.Live.Damaged() {
		if err := actors.Host(ctx, host.ReportQuarantine{Stream: string(stream), Reason: reason}); err != nil {
			logger.Error("a stream is left alone, which is not recorded", "stream", stream, "reason", reason, "error", err)
		}
	}
	if past.Host.State.BootID == bootID {
		lost(ctx, actors, past, x, watched, logger)
	}
	return nil
}

// lost ends what should be running and what the monitor does not know, and
// records it: when both processes died, its output went nowhere and nobody would
// see its end. Two of a container that must be one would be worse.
func lost(ctx context.Context, actors *node.Node, past entity.Past, x *executors.Executor, watched map[string]bool, logger *slog.Logger) {
	const reason = "the daemon and the monitor were both gone"
	end := func(name string, kill func() error) {
		if watched[name] {
			return
		}
		logger.Warn("process was lost", "id", name)
		if err := kill(); err != nil {
			logger.Error("lost process not killed", "id", name, "error", err)
		}
		if err := actors.Exited(ctx, name, container.Process{}, container.Unknown(reason, time.Now().UTC())); err != nil {
			logger.Error("exit not recorded", "id", name, "error", err)
		}
	}
	for c, at := range past.Containers {
		if container.Alive(at.State) {
			end(string(c), func() error { return x.KillContainer(ctx, at.State) })
		}
	}
	for s, at := range past.Sandboxes {
		if at.State.Holder.PID != 0 && !at.State.Holder.Exited && !at.State.Holder.Stopped {
			end(string(s), func() error { return x.KillHolder(ctx, at.State) })
		}
	}
}

// collectNetworks has CNI forget every attachment that the log does not know. A
// sandbox that is only about to be attached is kept, too, and so is one whose stream
// is damaged: its containers may run.
func collectNetworks(ctx context.Context, d *drivers, live *projections.Live, logger *slog.Logger) {
	var keep []cni.Attached
	for _, s := range live.Sandboxes() {
		if !s.State.HostNetwork && !s.State.Network.Detached {
			keep = append(keep, cni.Attached{ID: string(s.State.ID)})
		}
	}
	for stream := range live.Damaged() {
		if sandbox, is := strings.CutPrefix(string(stream), "sandbox/"); is {
			keep = append(keep, cni.Attached{ID: sandbox})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, gcWithin)
	defer cancel()
	// Leaked addresses are a nuisance; pods that cannot start are worse.
	if err := d.Network.GC(ctx, keep); err != nil {
		logger.Warn("networks not garbage-collected", "error", err)
	}
}

// collectContainers removes what a power failure brought back of containers that had been
// removed. One whose stream is damaged is left alone.
func collectContainers(ctx context.Context, x *executors.Executor, live *projections.Live, logger *slog.Logger) {
	known := map[string]bool{}
	for _, c := range live.Containers() {
		known[string(c.State.ID)] = true
	}
	for stream := range live.Damaged() {
		if c, is := strings.CutPrefix(string(stream), "container/"); is {
			known[c] = true
		}
	}
	removed, err := x.CollectContainers(ctx, func(id string) bool { return known[id] })
	if len(removed) > 0 {
		logger.Warn("files of unknown containers were removed", "containers", removed)
	}
	if err != nil {
		logger.Warn("not all files of unknown containers were removed", "error", err)
	}
}

func readBootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the kernel's boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
