package keeper

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"time"

	"github.com/stele-runtime/stele/eventlog"
)

// Views say what has not ended, as of some record of the log.
type Views interface {
	// Sequence is the last record that the views include.
	Sequence() eventlog.Sequence
	// Saved is the record that the saved states include, from which the next start goes on;
	// false if it reads the whole log. A record that it has to read stays, even if another one
	// that it has not to read makes up for it.
	Saved(context.Context) (eventlog.Sequence, bool, error)
	// Save has the states saved as they are now. It does not wait for that.
	Save()
	// Lives reports whether a stream's entity has not ended, or cannot be followed. More
	// may be appended to it, or be owed for it.
	Lives(eventlog.Stream) bool
	// Ended yields the pods and containers that are remembered to have ended, the newest first.
	Ended() iter.Seq[Ended]
	// Forget drops what the views remember of a stream that is gone.
	Forget(eventlog.Stream)
}

// Ended is a stream that has ended, with its last record.
type Ended struct {
	Stream   eventlog.Stream
	Sequence eventlog.Sequence
	// Pod: it is a pod's, and not a container's.
	Pod bool
}

// Options are what a Keeper needs.
type Options struct {
	Log    eventlog.Log
	Views  Views
	Limits Limits
	// BootID is the present boot's, Clock counts in it. The wall clock is not used.
	BootID string
	Clock  eventlog.Clock
	Logger *slog.Logger
}

// Keeper keeps the log within its limits. Its methods but Stats belong to one goroutine.
type Keeper struct {
	log    eventlog.Log
	views  Views
	limits Limits
	logger *slog.Logger
	ages   *ages
	trims  trimmer

	// ended and settled go through the log, one for each kind of removal.
	ended, settled cursor
	// held are ended pods that the cursor has passed because they were among the newest.
	held map[eventlog.Stream]bool
	// followers are those of the streams of which the settled cursor has seen a record.
	followers map[eventlog.Stream]*follower
	// lastPod is the pod whose stream was read last, podHas the containers that it has.
	lastPod eventlog.Stream
	podHas  map[eventlog.Stream]bool

	// saved are the cursors as the log has them.
	saved [2]eventlog.Sequence
	// pressed: records are being removed for the size, until excess is gone.
	pressed bool
	excess  excess
	// restUntil is when the next record is due, by the clock; until then there is nothing to do
	// unless the log has grown beyond restAt.
	restUntil time.Duration
	restAt    eventlog.Sequence
	// oldest is the first record of the log.
	oldest eventlog.Record
	// noCompaction is when to try again to compact, by the clock.
	noCompaction time.Duration

	stats stats
}

// New returns a Keeper that goes on where the last one was.
func New(ctx context.Context, o Options) (*Keeper, error) {
	a, err := readAges(ctx, o.Log, o.BootID, o.Clock)
	if err != nil {
		return nil, err
	}
	k := &Keeper{
		log: o.Log, views: o.Views, limits: o.Limits, logger: o.Logger, ages: a, trims: trimmer{o.Log, o.Views, o.Logger},
		held: map[eventlog.Stream]bool{}, followers: map[eventlog.Stream]*follower{},
	}
	if err := k.load(ctx); err != nil {
		// The cursors only save time.
		k.logger.Warn("the log is gone through from its beginning for what can be removed", "error", err)
		k.ended, k.settled, k.saved = cursor{}, cursor{}, [2]eventlog.Sequence{}
	}
	return k, k.recall(ctx)
}

// recall finds the pods that were held, and has the views forget what a checkpoint of theirs still
// had of streams that are gone.
func (k *Keeper) recall(ctx context.Context) error {
	for ended := range k.views.Ended() {
		_, exists, err := k.log.Stream(ctx, ended.Stream)
		switch {
		case ignoreDamage(err) != nil:
			return fmt.Errorf("look for %s: %w", ended.Stream, err)
		case err == nil && !exists:
			k.views.Forget(ended.Stream)
		case ended.Pod && ended.Sequence < k.ended.next:
			k.held[ended.Stream] = true
		}
	}
	return nil
}

const (
	// every is how often a Keeper looks whether there is something to do, at most.
	every = 10 * time.Second
	// breath is the pause between two steps, so that those who have to do with pods come first.
	breath = 10 * time.Millisecond
)

// Run keeps the log until ctx is done. It begins after a while: a node that starts has enough
// to do.
func (k *Keeper) Run(ctx context.Context) {
	every := max(min(every, k.limits.Settled/4), time.Second)
	if !pause(ctx, every) {
		return
	}
	failed := ""
	for {
		more, err := k.Step(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := every
		switch {
		case err != nil:
			if err.Error() != failed { // A full disk fails for hours.
				k.logger.Warn("old records are not removed from the event log", "error", err)
			}
			failed = err.Error()
		case more:
			wait = breath
		default:
			failed = ""
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// pause waits, and returns false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Step removes a bounded part of what is due, and reports whether more may be due now.
func (k *Keeper) Step(ctx context.Context) (more bool, err error) {
	if more, err = k.step(ctx); ctx.Err() == nil {
		k.stats.stepped(err)
	}
	return more, err
}

func (k *Keeper) step(ctx context.Context) (more bool, err error) {
	usage, err := k.log.Usage(ctx)
	if err != nil {
		return false, fmt.Errorf("ask how large the event log is: %w", err)
	}
	k.pressed = k.limits.pressed(usage, k.pressed)
	k.excess = k.limits.excess(usage)
	if err := k.noteOldest(ctx, usage.First); err != nil {
		return false, err
	}
	if k.rests() {
		return false, k.compact(ctx)
	}
	k.dropFollowers()
	more, err = k.removeDue(ctx)
	if err == nil && !more && k.pressed {
		more, err = k.makeRoom(ctx, usage)
	}
	if !k.pressed {
		k.stats.setTooLarge(false)
	}
	if err == nil && !more {
		err = k.compact(ctx)
	}
	if err == nil {
		err = k.save(ctx, !more)
	}
	if err != nil || more {
		k.restUntil = 0
	}
	return more, err
}

// noteOldest notes the age of the log's first record.
func (k *Keeper) noteOldest(ctx context.Context, first eventlog.Sequence) error {
	if first != k.oldest.Sequence {
		k.oldest = eventlog.Record{}
		for record, err := range k.log.Read(ctx, first) {
			if err != nil && !passable(err) {
				return fmt.Errorf("read the first record: %w", err)
			}
			if err == nil {
				k.oldest = record
				k.oldest.Payload = nil
				break
			}
		}
	}
	if k.oldest.Sequence > 0 {
		k.stats.setOldest(k.ages.of(k.oldest))
	}
	return nil
}

// rests reports whether nothing can have become due since the last step.
func (k *Keeper) rests() bool {
	return !k.pressed && k.views.Sequence() == k.restAt && k.ages.clock.SinceBoot() < k.restUntil
}

// removeDue removes what is old enough.
func (k *Keeper) removeDue(ctx context.Context) (more bool, err error) {
	k.restAt, k.restUntil = k.views.Sequence(), k.ages.clock.SinceBoot()+time.Hour
	if more, err = k.removeHeld(ctx, RuleAge); err != nil || more {
		return more, err
	}
	for _, remove := range []func() (bitten, error){
		func() (bitten, error) { return k.removeEnded(ctx, RuleAge) },
		func() (bitten, error) { return k.thin(ctx, RuleSettled) },
	} {
		b, err := remove()
		if err != nil || b.more {
			return b.more, err
		}
		if b.wait > 0 {
			k.restUntil = min(k.restUntil, k.ages.clock.SinceBoot()+b.wait)
		}
	}
	return false, nil
}

// makeRoom removes what is young for the size: what ended first, goes first; then pods that
// would stay for being among the newest; then what has left no trace since a short while.
func (k *Keeper) makeRoom(ctx context.Context, usage eventlog.Usage) (more bool, err error) {
	before := k.ended.next
	b, err := k.removeEnded(ctx, RuleSize)
	if err != nil || b.more || k.ended.next > before {
		return err == nil, err
	}
	if more, err = k.removeHeld(ctx, RuleSize); err != nil || more {
		return more, err
	}
	before = k.settled.next
	b, err = k.thin(ctx, RuleSize)
	if err != nil || b.more || k.settled.next > before {
		return err == nil, err
	}
	if b.wait > 0 {
		return false, nil // until the states are saved
	}
	if !k.stats.tooLarge() {
		k.logger.Warn("what lives takes more room in the event log than history.keep_size allows for; nothing that has ended is kept",
			"bytes", held(usage), "keep_size", k.limits.Bytes)
	}
	k.stats.setTooLarge(true)
	return false, nil
}

// compactPause is how long not to compact after one that could not be, or was of little use.
const compactPause = 10 * time.Minute

// compact gives free space back to the file system, if there is much.
func (k *Keeper) compact(ctx context.Context) error {
	now := k.ages.clock.SinceBoot()
	if now < k.noCompaction {
		return nil
	}
	usage, err := k.log.Usage(ctx)
	if err != nil {
		return fmt.Errorf("ask how large the event log is: %w", err)
	}
	if !k.limits.sparse(usage) {
		k.stats.compacting(nil)
		return nil
	}
	k.noCompaction = now + compactPause
	begun := time.Now()
	if err := k.log.Compact(ctx); err != nil {
		if ctx.Err() == nil { // The free space is of use to the log, too.
			k.logger.Warn("the event log's free space is not given back to the file system", "error", err)
			k.stats.compacting(fmt.Errorf("give free space back to the file system: %w", err))
		}
		return nil
	}
	k.stats.compacting(nil)
	k.stats.compacted(time.Since(begun))
	if usage, err = k.log.Usage(ctx); err == nil {
		k.logger.Info("event log compacted", "bytes", usage.Bytes, "took", time.Since(begun).Round(time.Millisecond))
	}
	return err
}

// dropFollowers forgets the streams that have ended.
func (k *Keeper) dropFollowers() {
	maps.DeleteFunc(k.followers, func(s eventlog.Stream, _ *follower) bool { return !k.views.Lives(s) })
}

const (
	checkpointName   = "keeper"
	checkpointSchema = 1
	// saveEvery is how many records a cursor goes on before it is saved while there is more to do.
	saveEvery = 50_000
	// saveAtRest is how many they go on before they are saved when there is nothing more to do.
	saveAtRest = 64
)

// load reads where the last Keeper was.
func (k *Keeper) load(ctx context.Context) error {
	saved, found, err := k.log.LoadCheckpoint(ctx, checkpointName)
	if err != nil || !found {
		return err
	}
	if saved.Schema != checkpointSchema {
		return fmt.Errorf("its checkpoint has schema %d, not %d", saved.Schema, checkpointSchema)
	}
	for pair, err := range saved.Pairs {
		if err != nil {
			return err
		}
		if len(pair.Value) != 8 {
			return fmt.Errorf("its checkpoint has %d bytes for %s", len(pair.Value), pair.Key)
		}
		next := eventlog.Sequence(binary.BigEndian.Uint64(pair.Value))
		if next > k.log.Last()+1 {
			return fmt.Errorf("its checkpoint is of record %d, the log ends at %d", next, k.log.Last())
		}
		switch pair.Key {
		case "ended":
			k.ended.next = next
		case "settled":
			k.settled.next = next
		}
	}
	k.saved = [2]eventlog.Sequence{k.ended.next, k.settled.next}
	return nil
}

// save saves the cursors, if they have gone far or if they rest.
func (k *Keeper) save(ctx context.Context, resting bool) error {
	now := [2]eventlog.Sequence{k.ended.next, k.settled.next}
	gone := max(now[0]-k.saved[0], now[1]-k.saved[1])
	if gone < saveEvery && (!resting || gone < saveAtRest) {
		return nil
	}
	err := k.log.SaveCheckpoint(ctx, checkpointName, eventlog.Delta{
		Checkpoint: eventlog.Checkpoint{Sequence: max(now[0], now[1]) - 1, Schema: checkpointSchema},
		Replace:    true,
		Put:        map[string][]byte{"ended": place(now[0]), "settled": place(now[1])},
	})
	if err != nil {
		return fmt.Errorf("save how far the event log was gone through: %w", err)
	}
	k.saved = now
	return nil
}

func place(s eventlog.Sequence) []byte { return binary.BigEndian.AppendUint64(nil, uint64(s)) }
