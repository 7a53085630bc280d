package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// follower follows a stream that lives, and finds its records that leave no trace. It names
// records by their sequences.
type follower struct {
	// next takes the stream's next record.
	next func(eventlog.Record) []uint64
	// last is the record that it saw last.
	last    eventlog.Sequence
	version eventlog.Version
	// spared is last if it leaves no trace: a stream keeps its last record.
	spared eventlog.Sequence
}

func newFollower(stream eventlog.Stream) *follower {
	if strings.HasPrefix(string(stream), "sandbox/") {
		return &follower{next: nextOf(codec.DecodeSandbox, (&sandbox.Settling{}).Next)}
	}
	return &follower{next: nextOf(codec.DecodeContainer, (&container.Settling{}).Next)}
}

// nextOf decodes a record for a machine. One that this version cannot read stays.
func nextOf[E any](decode func(string, uint32, []byte) (E, error), next func(uint64, E) []uint64) func(eventlog.Record) []uint64 {
	return func(r eventlog.Record) []uint64 {
		event, err := decode(r.Type, r.Schema, r.Payload)
		if err != nil {
			return nil
		}
		return next(uint64(r.Sequence), event)
	}
}

func (f *follower) take(r eventlog.Record) (void []eventlog.Sequence) {
	if f.spared > 0 {
		void, f.spared = append(void, f.spared), 0
	}
	for _, sequence := range f.next(r) {
		void = append(void, eventlog.Sequence(sequence))
	}
	f.last, f.version = r.Sequence, r.Version
	return void
}

// thin removes records that leave no trace of what lives, from the cursor on, by a rule.
func (k *Keeper) thin(ctx context.Context, rule string) (bitten, error) {
	saved, some, err := k.views.Saved(ctx)
	if err != nil {
		return bitten{}, err
	}
	due := func(r eventlog.Record) time.Duration {
		if wait := k.limits.Settled - k.ages.of(r); wait > 0 && rule != RuleSize {
			return wait
		}
		if some && r.Sequence > saved {
			k.views.Save()
			return every
		}
		return 0
	}
	void := map[eventlog.Stream][]eventlog.Sequence{}
	b, err := k.bite(ctx, k.settled.next, k.views.Sequence(), due, func(r eventlog.Record) (bool, error) {
		follower, err := k.follow(ctx, r, void)
		if err != nil || follower == nil {
			return true, err
		}
		if less := follower.take(r); len(less) > 0 {
			void[r.Stream] = append(void[r.Stream], less...)
		}
		return true, nil
	})
	if err == nil {
		err = k.removeVoid(ctx, void, rule)
	}
	if err != nil {
		clear(k.followers) // They have seen what the cursor has not passed.
		return b, err
	}
	k.settled.next = b.next
	return b, nil
}

// follow returns the follower of a record's stream, nil if nothing of it is removed. One that is new has
// read the stream up to the record; what it found is added to void.
func (k *Keeper) follow(ctx context.Context, r eventlog.Record, void map[eventlog.Stream][]eventlog.Sequence) (*follower, error) {
	if kind, _, _ := strings.Cut(string(r.Stream), "/"); kind != "sandbox" && kind != "container" || !k.views.Lives(r.Stream) {
		return nil, nil
	}
	if f := k.followers[r.Stream]; f != nil {
		return f, nil
	}
	f := newFollower(r.Stream)
	for earlier, err := range k.log.ReadStream(ctx, r.Stream, 1) {
		if _, damaged := errors.AsType[*eventlog.DamageError](err); damaged {
			return nil, nil
		}
		if errors.Is(err, eventlog.ErrRemoved) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", r.Stream, err)
		}
		if earlier.Version >= r.Version {
			break
		}
		void[r.Stream] = append(void[r.Stream], f.take(earlier)...)
	}
	k.followers[r.Stream] = f
	return f, nil
}

// removeVoid removes records, in the order of the log, but the last one of each stream.
func (k *Keeper) removeVoid(ctx context.Context, void map[eventlog.Stream][]eventlog.Sequence, rule string) error {
	var all []eventlog.Sequence
	for stream, sequences := range void {
		info, exists, err := k.log.Stream(ctx, stream)
		if err := ignoreDamage(err); err != nil {
			return err
		}
		f := k.followers[stream]
		if !exists || f == nil {
			continue
		}
		if info.Version == f.version && slices.Contains(sequences, f.last) {
			sequences = slices.DeleteFunc(sequences, func(s eventlog.Sequence) bool { return s == f.last })
			f.spared = f.last
		}
		all = append(all, sequences...)
	}
	slices.Sort(all)
	for batch := range slices.Chunk(all, eventlog.MaxThin) {
		if err := k.thinOut(ctx, batch, rule); err != nil {
			return err
		}
	}
	return nil
}

// thinOut removes records. Damaged ones stay.
func (k *Keeper) thinOut(ctx context.Context, sequences []eventlog.Sequence, rule string) error {
	err := k.log.Thin(ctx, eventlog.Thin{Sequences: sequences, Rule: rule})
	switch {
	case err == nil || !errors.Is(err, eventlog.ErrCorrupt) && !errors.Is(err, eventlog.ErrInvalid):
		return err
	case len(sequences) == 1:
		k.logger.Warn("a record is kept: it cannot be removed", "sequence", sequences[0], "error", err)
		return nil
	}
	half := len(sequences) / 2
	if err := k.thinOut(ctx, sequences[:half], rule); err != nil {
		return err
	}
	return k.thinOut(ctx, sequences[half:], rule)
}
