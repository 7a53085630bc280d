package keeper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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

// mostWhole is how many streams one step finds, but for those of the last pod.
const mostWhole = 128

// excess is how much has to go for the size.
type excess struct {
	bytes int64
	// perRecord is how much a record takes, on average.
	perRecord int64
}

// leavesRoom reports whether a step should find more. For the size no more goes than has to.
func (f *found) leavesRoom(rule string, over excess) bool {
	if rule != RuleSize || len(f.whole) == 0 {
		return len(f.whole) < mostWhole
	}
	records := int64(0)
	for _, info := range f.whole {
		records += int64(info.Version - info.Base.Version)
	}
	return len(f.whole) < mostWhole && records*over.perRecord < over.bytes
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
		return f.leavesRoom(rule, k.excess), err
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

// removeHeld removes pods that are old enough and no longer among the newest, or, for the size, the
// oldest ones that were held.
func (k *Keeper) removeHeld(ctx context.Context, rule string) (more bool, err error) {
	var f found
	var gone []eventlog.Stream
	for _, pod := range k.heldPods(rule) {
		info, exists, err := k.log.Stream(ctx, pod)
		if err == nil && exists {
			err = k.findPod(ctx, info, &f)
		}
		if err := ignoreDamage(err); err != nil {
			return false, err
		}
		if gone = append(gone, pod); !f.leavesRoom(rule, k.excess) {
			break
		}
	}
	if err := k.remove(ctx, f, rule); err != nil {
		return false, err
	}
	for _, pod := range gone {
		delete(k.held, pod)
	}
	return len(gone) > 0, nil
}

// heldPods returns the held pods that are to go, the oldest first.
func (k *Keeper) heldPods(rule string) (pods []eventlog.Stream) {
	if len(k.held) == 0 {
		return nil
	}
	unknown := maps.Clone(k.held)
	newer := 0
	for ended := range k.views.Ended() {
		if !ended.Pod {
			continue
		}
		if newer++; k.held[ended.Stream] && (rule == RuleSize || newer > k.limits.Pods) {
			pods = append(pods, ended.Stream)
		}
		delete(unknown, ended.Stream)
	}
	slices.Reverse(pods)
	// Those that are forgotten are older than all that are remembered.
	return append(slices.Sorted(maps.Keys(unknown)), pods...)
}

// remove removes what was found, containers before their pods.
func (k *Keeper) remove(ctx context.Context, f found, rule string) error {
	var pods, others []eventlog.StreamInfo
	for _, info := range f.whole {
		if strings.HasPrefix(string(info.Stream), "sandbox/") {
			pods = append(pods, info)
		} else {
			others = append(others, info)
		}
	}
	for _, wave := range [][]eventlog.StreamInfo{others, pods} {
		if err := k.trims.whole(ctx, wave, rule); err != nil {
			return err
		}
	}
	for stream, version := range f.through {
		if err := k.trims.done(stream, k.trims.through(ctx, stream, version, rule)); err != nil {
			return fmt.Errorf("remove the beginning of %s: %w", stream, err)
		}
	}
	return nil
}

func ignoreDamage(err error) error {
	if errors.Is(err, eventlog.ErrCorrupt) {
		return nil
	}
	return err
}
