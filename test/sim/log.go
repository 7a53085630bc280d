package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// history is the log, which survives the daemon: the one in memory, with a disk that
// takes its time, fills up and lies.
type history struct {
	*memlog.Log
	run *run
	// pending are the appends on their way to the disk, oldest first.
	pending []pending
	// full: appends are refused.
	full bool
	// damaged are streams that cannot be read behind a version.
	damaged map[eventlog.Stream]eventlog.Version
}

type pending struct {
	append eventlog.Append
	done   func([]eventlog.Record, error)
}

var errFull = fmt.Errorf("%w: no space left on device", eventlog.ErrUnavailable)

func newHistory(r *run) *history {
	return &history{Log: memlog.New(memlog.Options{BootID: bootID(r.world.boot), Clock: nodeClock{r}}), run: r, damaged: map[eventlog.Stream]eventlog.Version{}}
}

func bootID(boot int) string { return fmt.Sprintf("boot-%d", boot) }

// AppendAsync implements eventlog.Log: it reaches the disk later.
func (h *history) AppendAsync(a eventlog.Append, done func([]eventlog.Record, error)) {
	h.pending = append(h.pending, pending{a, done})
}

// commit brings the oldest append to the disk, or not.
func (h *history) commit() {
	p := h.pending[0]
	h.pending = h.pending[1:]
	chance := 1000
	if h.run.faults.trouble() {
		chance = h.run.rand.IntN(1000)
	}
	switch {
	case h.full:
		p.done(nil, errFull)
	case chance < 6:
		p.done(nil, errors.Join(eventlog.ErrOutcomeUnknown, errors.New("the disk does not answer")))
	case chance < 12:
		if !h.forgotten(p.append) {
			h.take(p.append)
		}
		p.done(nil, errors.Join(eventlog.ErrOutcomeUnknown, errors.New("the disk does not answer")))
	case chance < 16:
		p.done(nil, &eventlog.WrongVersionError{Stream: p.append.Stream, Expected: p.append.Expected})
	case h.forgotten(p.append):
		p.done(nil, &eventlog.WrongVersionError{Stream: p.append.Stream, Expected: p.append.Expected})
	default:
		p.done(h.take(p.append), nil)
	}
}

// forgotten reports whether an append is about an image that was idle for so long that its stream
// was removed just before.
func (h *history) forgotten(a eventlog.Append) bool {
	_, exists, err := h.Log.Stream(context.Background(), a.Stream)
	must(err)
	return !exists && a.Expected > 0 && strings.HasPrefix(string(a.Stream), "image/")
}

// take makes an append durable, and the rest of the node sees it.
func (h *history) take(a eventlog.Append) []eventlog.Record {
	records, err := h.Append(context.Background(), a)
	if err != nil {
		h.run.violation("append to %s: %v", a.Stream, err)
		return nil
	}
	for _, record := range records {
		h.run.view.take(record)
	}
	return records
}

// ReadStream implements eventlog.Log: the disk is sometimes slow, and some streams are
// damaged.
func (h *history) ReadStream(ctx context.Context, s eventlog.Stream, from eventlog.Version) iter.Seq2[eventlog.Record, error] {
	var err error
	_, damaged := h.damaged[s]
	switch {
	case damaged:
		err = &eventlog.DamageError{Stream: s, Version: 1, Problem: "the record's checksum does not fit"}
	case h.run.faults.trouble() && h.run.rand.IntN(20) == 0:
		err = eventlog.ErrUnavailable
	default:
		return h.Log.ReadStream(ctx, s, from)
	}
	return func(yield func(eventlog.Record, error) bool) { yield(eventlog.Record{}, err) }
}

// crash is what a kill of the daemon leaves of its appends: the disk may have had some of
// them.
func (h *history) crash() {
	for !h.full && len(h.pending) > 0 && h.run.rand.IntN(2) == 0 {
		if !h.forgotten(h.pending[0].append) {
			h.take(h.pending[0].append)
		}
		h.pending = h.pending[1:]
	}
	h.pending = nil
}

// reopen is what a new daemon does with the log.
func (h *history) reopen() {
	h.Log = memlog.Reopen(h.Log, memlog.Options{BootID: bootID(h.run.world.boot), Clock: nodeClock{h.run}})
}

// powerFails takes away some of what was not yet on the disk, and returns how many
// appends.
func (h *history) powerFails(random *rand.Rand) (lost int) {
	lost = random.IntN(h.Volatile() + 1)
	h.Log = memlog.PowerFailure(h.Log, memlog.Options{BootID: bootID(h.run.world.boot), Clock: nodeClock{h.run}}, lost)
	return lost
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
