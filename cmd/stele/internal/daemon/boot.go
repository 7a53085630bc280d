package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/executors/cni"
)

// gcWithin bounds CNI's garbage collection at the start; plugins may hang.
const gcWithin = 30 * time.Second

// lostRetry is the pause before a lost process is killed again.
const lostRetry = 5 * time.Second

// lostReason explains an unknown exit code.
const lostReason = "the daemon and the monitor were both gone"

// Boot starts the actors from their past and reconciles it with what the kernel and the
// monitor know.
type Boot struct {
	Actors   Actors
	Views    Views
	Monitor  Monitor
	Executor Executor
	Network  Network
	// Start is the record of this daemon's start, with the kernel's boot id.
	Start  host.StartDaemon
	Logger *slog.Logger

	// lost processes were not ended yet. They belong to Run, and then to FollowLost.
	lost []lost
}

// Run boots, before any call is served.
func (b *Boot) Run(ctx context.Context) error {
	past := b.Views.Past()
	sameBoot := past.Host.State.BootID == b.Start.BootID
	watched, err := b.watched(ctx)
	if err != nil {
		return err
	}
	// Before any ADD or DEL: the CNI specification wants GC to run alone.
	b.collectNetworks(ctx)
	if !sameBoot {
		b.collectContainers(ctx)
	}
	if err := b.Actors.Boot(ctx, past, b.Start); err != nil {
		return err
	}
	for stream, reason := range b.Views.Damaged() {
		if err := b.Actors.Host(ctx, host.ReportQuarantine{Stream: string(stream), Reason: reason}); err != nil {
			b.Logger.Error("stream in quarantine not recorded", "stream", stream, "reason", reason, "error", err)
		}
	}
	if sameBoot {
		b.endLost(ctx, past, watched)
	}
	return nil
}

// watched returns the ids that the monitor watches.
func (b *Boot) watched(ctx context.Context) (map[string]bool, error) {
	all, err := b.Monitor.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the monitor what it watches: %w", err)
	}
	watched := map[string]bool{}
	for _, c := range all {
		watched[c.ID] = true
	}
	return watched, nil
}

// endLost kills containers and holders that should run but that the monitor does not
// watch, and records their exits. Both processes died: the output went nowhere and
// nobody would see the exit. Two instances of one container would be worse, so that an
// exit is recorded only after the kill; FollowLost repeats kills that failed.
func (b *Boot) endLost(ctx context.Context, past entity.Past, watched map[string]bool) {
	for c, at := range past.Containers {
		if container.Alive(at.State) && !watched[string(c)] {
			b.lost = append(b.lost, lost{string(c), func(ctx context.Context) error { return b.Executor.KillContainer(ctx, at.State) }})
		}
	}
	for s, at := range past.Sandboxes {
		holder := at.State.Holder
		if holder.PID != 0 && !holder.Exited && !holder.Stopped && !watched[string(s)] {
			b.lost = append(b.lost, lost{string(s), func(ctx context.Context) error { return b.Executor.KillHolder(ctx, at.State) }})
		}
	}
	b.lost = slices.DeleteFunc(b.lost, func(l lost) bool { return b.end(ctx, l) })
}

// lost is a process that nobody watches.
type lost struct {
	// name is the id of its container or sandbox.
	name string
	kill func(context.Context) error
}

// end returns false if the kill failed or its result was not recorded.
func (b *Boot) end(ctx context.Context, l lost) bool {
	if err := l.kill(ctx); err != nil {
		b.Logger.Error("lost process not killed", "id", l.name, "error", err)
		return false
	}
	b.Logger.Warn("lost process killed", "id", l.name)
	if err := b.Actors.Exited(ctx, l.name, container.Process{}, container.Unknown(lostReason, time.Now().UTC())); err != nil {
		b.Logger.Error("exit not recorded", "id", l.name, "error", err)
		return false
	}
	return true
}

// FollowLost ends, after Run, what Run could not end, and returns when all of it has
// ended or ctx is done.
func (b *Boot) FollowLost(ctx context.Context) {
	for len(b.lost) > 0 && pause(ctx, lostRetry) {
		b.lost = slices.DeleteFunc(b.lost, func(l lost) bool { return b.end(ctx, l) })
	}
}

// collectNetworks makes CNI remove every attachment that the log does not know, and unmaps
// host ports.
func (b *Boot) collectNetworks(ctx context.Context) {
	keep := b.attached()
	b.collectHostPorts(ctx, keep)
	ctx, cancel := context.WithTimeout(ctx, gcWithin)
	defer cancel()
	// Leaked addresses are a nuisance; pods that cannot start are worse.
	if err := b.Network.GC(ctx, keep); err != nil {
		b.Logger.Warn("networks not garbage-collected", "error", err)
	}
}

// collectHostPorts needs no plugins, so that it does not wait for them.
func (b *Boot) collectHostPorts(ctx context.Context, keep []cni.Attached) {
	removed, err := b.Executor.CollectHostPorts(ctx, func(id string) bool { return slices.Contains(keep, cni.Attached{ID: id}) })
	if len(removed) > 0 {
		b.Logger.Warn("host ports of unknown pods unmapped", "pods", removed)
	}
	if err != nil {
		b.Logger.Warn("host ports of unknown pods not unmapped", "error", err)
	}
}

// attached returns the sandboxes that may have an attachment. Those that are about to be
// attached are among them, and so are damaged ones: their containers may run.
func (b *Boot) attached() (all []cni.Attached) {
	for _, s := range b.Views.Sandboxes() {
		if !s.State.HostNetwork && !s.State.Network.Detached {
			all = append(all, cni.Attached{ID: string(s.State.ID)})
		}
	}
	for _, name := range b.damaged("sandbox/") {
		all = append(all, cni.Attached{ID: name})
	}
	return all
}

// collectContainers removes files of removed containers that a power failure brought
// back. Containers with a damaged stream are kept.
func (b *Boot) collectContainers(ctx context.Context) {
	known := map[string]bool{}
	for _, c := range b.Views.Containers() {
		known[string(c.State.ID)] = true
	}
	for _, name := range b.damaged("container/") {
		known[name] = true
	}
	removed, err := b.Executor.CollectContainers(ctx, func(id string) bool { return known[id] })
	if len(removed) > 0 {
		b.Logger.Warn("files of unknown containers removed", "containers", removed)
	}
	if err != nil {
		b.Logger.Warn("files of unknown containers not all removed", "error", err)
	}
}

// damaged returns the ids of a kind's damaged streams.
func (b *Boot) damaged(kind string) (names []string) {
	for stream := range b.Views.Damaged() {
		if name, is := strings.CutPrefix(string(stream), kind); is {
			names = append(names, name)
		}
	}
	return names
}

// BootID returns the kernel's boot id.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the kernel's boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
