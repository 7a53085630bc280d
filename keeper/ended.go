package keeper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// found is what a bite found to be due.
type found struct {
	// whole are streams that have ended. A pod's containers come before it.
	whole []eventlog.StreamInfo
	// through are streams that never end, and how far they go.
	through map[eventlog.Stream]eventlog.Version
}

// removeEnded removes what has ended, from the cursor on, by a rule.
func (k *Keeper) removeEnded(ctx context.Context, rule string) (bitten, error) {
	due := func(r eventlog.Record) time.Duration { return max(k.limits.Age-k.ages.of(r), 0) }
	if rule == RuleSize {
		due = func(eventlog.Record) time.Duration { return 0 }
	}
	f := found{through: map[eventlog.Stream]eventlog.Version{}}
	protected := k.protected()
	b, err := k.bite(ctx, k.ended.next, k.views.Sequence(), due, func(r eventlog.Record) (bool, error) {
		err := k.find(ctx, r, protected, &f)
		// For the size no more goes than has to.
		return rule != RuleSize || len(f.whole) == 0, err
	})
	if err != nil {
		return b, err
	}
	if err := k.remove(ctx, f, rule); err != nil {
		return b, err
	}
	k.ended.next = b.next
	return b, nil
}

// find adds what has ended with a record. A pod ends with the last record of its stream, when
// nothing is owed any more.
func (k *Keeper) find(ctx context.Context, r eventlog.Record, protected map[eventlog.Stream]bool, f *found) error {
	kind, _, _ := strings.Cut(string(r.Stream), "/")
	switch kind {
	case "node":
		f.through[r.Stream] = r.Version
		return k.findClosed(ctx, r, f)
	case "image":
		f.through[r.Stream] = r.Version
	case "sandbox", "container":
	default:
		return nil // of a kind that a newer version knows
	}
	// An image that was used just now may be pulled again at any moment.
	if k.views.Lives(r.Stream) || kind == "image" && k.ages.of(r) < k.limits.Settled {
		return nil
	}
	info, exists, err := k.log.Stream(ctx, r.Stream)
	if err != nil || !exists || info.Version != r.Version {
		return ignoreDamage(err)
	}
	switch kind {
	case "sandbox":
		if protected[r.Stream] {
			k.held[r.Stream] = true
			return nil
		}
		return k.findPod(ctx, info, f)
	case "container":
		if with, err := k.goesWithPod(ctx, r.Stream); err != nil || with {
			return err
		}
	case "image":
		delete(f.through, r.Stream)
	}
	f.whole = append(f.whole, info)
	return nil
}

// findClosed adds a stream that could not be read, once nothing is left of what it was about
// and the node's record of that goes.
func (k *Keeper) findClosed(ctx context.Context, r eventlog.Record, f *found) error {
	event, err := codec.DecodeHost(r.Type, r.Schema, r.Payload)
	if err != nil {
		return nil // it is of a newer version
	}
	closed, is := event.(host.StreamClosed)
	if !is || k.views.Lives(eventlog.Stream(closed.Stream)) {
		return nil
	}
	info, exists, err := k.log.Stream(ctx, eventlog.Stream(closed.Stream))
	if err == nil && exists {
		f.whole = append(f.whole, info)
	}
	return ignoreDamage(err)
}

// findPod adds a pod's containers, and then the pod.
func (k *Keeper) findPod(ctx context.Context, pod eventlog.StreamInfo, f *found) error {
	containers, err := k.containersOf(ctx, pod.Stream)
	if err != nil {
		return err
	}
	for c := range containers {
		if k.views.Lives(c) {
			continue
		}
		info, exists, err := k.log.Stream(ctx, c)
		if err := ignoreDamage(err); err != nil {
			return err
		}
		if exists {
			f.whole = append(f.whole, info)
		}
	}
	f.whole = append(f.whole, pod)
	return nil
}

// containersOf reads which containers a pod's stream has.
func (k *Keeper) containersOf(ctx context.Context, pod eventlog.Stream) (map[eventlog.Stream]bool, error) {
	containers := map[eventlog.Stream]bool{}
	for r, err := range k.log.ReadStream(ctx, pod, 1) {
		if passable(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		event, err := codec.DecodeSandbox(r.Type, r.Schema, r.Payload)
		if err != nil {
			continue
		}
		if added, is := event.(sandbox.ContainerAdded); is {
			containers[eventlog.Stream("container/"+added.Container)] = true
		}
	}
	return containers, nil
}

// goesWithPod reports whether an ended container is removed when its pod is. That of a pod
// that lives goes by itself, and so does one that its pod does not know, or no longer.
func (k *Keeper) goesWithPod(ctx context.Context, c eventlog.Stream) (bool, error) {
	name, err := k.podOf(ctx, c)
	if err != nil || name == "" {
		return false, err
	}
	pod := eventlog.Stream("sandbox/" + name)
	if k.views.Lives(pod) {
		return false, nil
	}
	if k.lastPod != pod { // Containers of one pod end together.
		if k.podHas, err = k.containersOf(ctx, pod); err != nil {
			return false, err
		}
		k.lastPod = pod
	}
	return k.podHas[c], nil
}

// podOf is the sandbox of a container, as its first record says.
func (k *Keeper) podOf(ctx context.Context, c eventlog.Stream) (id.Sandbox, error) {
	for r, err := range k.log.ReadStream(ctx, c, 1) {
		if passable(err) {
			continue
		}
		if err != nil {
			return "", err
		}
		event, err := codec.DecodeContainer(r.Type, r.Schema, r.Payload)
		if err != nil {
			return "", nil
		}
		requested, _ := event.(container.ContainerRequested)
		return requested.Sandbox, nil
	}
	return "", nil
}

// protected are the pods that stay for being among the newest.
func (k *Keeper) protected() map[eventlog.Stream]bool {
	protected := map[eventlog.Stream]bool{}
	for ended := range k.views.Ended() {
		if len(protected) >= k.limits.Pods {
			break
		}
		if ended.Pod {
			protected[ended.Stream] = true
		}
	}
	return protected
}

// removeHeld removes a pod that is old enough and no longer among the newest, or, for the size, the
// oldest one that was held.
func (k *Keeper) removeHeld(ctx context.Context, rule string) (more bool, err error) {
	pod, some := k.heldPod(rule)
	if !some {
		return false, nil
	}
	info, exists, err := k.log.Stream(ctx, pod)
	if err := ignoreDamage(err); err != nil {
		return false, err
	}
	if f := (found{}); exists {
		if err := k.findPod(ctx, info, &f); err != nil {
			return false, err
		}
		if err := k.remove(ctx, f, rule); err != nil {
			return false, err
		}
	}
	delete(k.held, pod)
	return true, nil
}

// heldPod returns the oldest held pod that is to go.
func (k *Keeper) heldPod(rule string) (pod eventlog.Stream, some bool) {
	if len(k.held) == 0 {
		return "", false
	}
	unknown := maps.Clone(k.held)
	newer := 0
	for ended := range k.views.Ended() {
		if !ended.Pod {
			continue
		}
		if newer++; k.held[ended.Stream] && (rule == RuleSize || newer > k.limits.Pods) {
			pod = ended.Stream
		}
		delete(unknown, ended.Stream)
	}
	for forgotten := range unknown { // They are older than all that are remembered.
		return forgotten, true
	}
	return pod, pod != ""
}

// remove removes what was found.
func (k *Keeper) remove(ctx context.Context, f found, rule string) error {
	for _, info := range f.whole {
		err := k.log.Trim(ctx, eventlog.Trim{Stream: info.Stream, Through: info.Version, Whole: true, Rule: rule})
		if err := k.trimmed(info.Stream, err); err != nil {
			return fmt.Errorf("remove %s: %w", info.Stream, err)
		}
		k.views.Forget(info.Stream)
	}
	for stream, version := range f.through {
		if err := k.trimmed(stream, k.trimThrough(ctx, stream, version, rule)); err != nil {
			return fmt.Errorf("remove the beginning of %s: %w", stream, err)
		}
	}
	return nil
}

// trimmed ignores what concerns one stream only: that it goes on after all, that it is gone
// already, or that it is damaged.
func (k *Keeper) trimmed(stream eventlog.Stream, err error) error {
	_, version := errors.AsType[*eventlog.WrongVersionError](err)
	switch {
	case err == nil, version:
		return nil
	case errors.Is(err, eventlog.ErrCorrupt), errors.Is(err, eventlog.ErrInvalid):
		k.logger.Warn("records of a stream are kept: they cannot be removed", "stream", string(stream), "error", err)
		return nil
	}
	return err
}

func ignoreDamage(err error) error {
	if errors.Is(err, eventlog.ErrCorrupt) {
		return nil
	}
	return err
}
