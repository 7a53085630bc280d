package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// survey parts the streams of a log into those that have ended, by their last records, and those
// that a start has to read. Most of a log is of what has ended. That one of its earlier records is
// damaged stays unnoticed, as it does with a checkpoint.
type survey struct {
	log  eventlog.Reader
	live *Live // what the bases of streams have led to; it does not change meanwhile
	// last is the last record that counts. What goes on behind since is read, too: somebody
	// wants to know how it ended.
	last, since eventlog.Sequence

	mu sync.Mutex
	// sequences are the records to read, ended the streams that need not be read.
	sequences []eventlog.Sequence
	ended     []Ended
	err       error
}

// errUncertain: the log's parts contradict each other, so it has to be read as a whole.
var errUncertain = errors.New("its index differs from its records")

const (
	// surveyBatch is how many streams are looked at together.
	surveyBatch = 1024
	// endedKept is how many ended streams are collected before the oldest are dropped.
	endedKept = 4 * historyKept
)

// reaches are how many of a sandbox's last records are looked at, until these say that it has
// ended. Mostly five do, and lie together in the log. Of a container the last record does.
var reaches = []int{5, 20}

// surveyed is a stream in a survey.
type surveyed struct {
	eventlog.Places
	kind string
	// tail are its last events, if it is a sandbox's, and found those before them.
	tail, found  []sandbox.Event
	ended, lives bool // neither is known at first
}

// run surveys the log.
func (s *survey) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := make(chan []*surveyed)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for batch := range batches {
				if err := s.look(ctx, batch); err != nil {
					s.fail(err)
					cancel()
				}
			}
		})
	}
	records, err := s.divide(ctx, batches)
	close(batches)
	workers.Wait()
	if s.err == nil {
		s.err = err
	}
	if s.err != nil {
		return s.err
	}
	usage, err := s.log.Usage(ctx)
	if err != nil {
		return err
	}
	if records != usage.Records {
		return fmt.Errorf("%w: %d and %d", errUncertain, records, usage.Records)
	}
	slices.Sort(s.sequences)
	s.forget(historyKept)
	return nil
}

// divide hands out the log's streams, and counts their records.
func (s *survey) divide(ctx context.Context, batches chan<- []*surveyed) (records uint64, err error) {
	var batch []*surveyed
	offer := func() error {
		select {
		case batches <- batch:
			batch = nil
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for places, err := range s.log.Places(ctx) {
		if err != nil {
			return 0, err
		}
		records += uint64(len(places.Sequences))
		places.Sequences = slices.Clone(places.Sequences)
		batch = append(batch, s.begin(places))
		if len(batch) == surveyBatch {
			if err := offer(); err != nil {
				return 0, err
			}
		}
	}
	return records, offer()
}

// begin is what is known of a stream before its records are.
func (s *survey) begin(places eventlog.Places) *surveyed {
	kind, name, _ := strings.Cut(string(places.Stream), "/")
	at := places.Sequences[len(places.Sequences)-1]
	x := &surveyed{Places: places, kind: kind, lives: at > s.last || at >= s.since}
	switch kind {
	case "sandbox":
		x.lives = x.lives || s.live.sandboxes.byID[id.Sandbox(name)] != nil
	case "container":
		x.lives = x.lives || s.live.containers.byID[id.Container(name)] != nil
	default:
		x.lives = true
	}
	if _, damaged := s.live.damaged[places.Stream]; damaged {
		x.lives = true
	}
	return x
}

func (s *survey) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

// look finds out which of some streams have ended.
func (s *survey) look(ctx context.Context, batch []*surveyed) error {
	looked := 0
	for _, reach := range reaches {
		if err := s.read(ctx, batch, looked, reach); err != nil {
			return err
		}
		looked = reach
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range batch {
		if x.ended {
			s.ended = append(s.ended, Ended{x.Stream, x.Sequences[len(x.Sequences)-1]})
			continue
		}
		for _, sequence := range x.Sequences {
			if sequence <= s.last {
				s.sequences = append(s.sequences, sequence)
			}
		}
	}
	if len(s.ended) > endedKept {
		s.forget(historyKept)
	}
	return nil
}

// forget keeps the streams that ended last, in order.
func (s *survey) forget(but int) {
	slices.SortFunc(s.ended, func(a, b Ended) int { return cmp.Compare(a.Sequence, b.Sequence) })
	s.ended = slices.Clone(s.ended[max(0, len(s.ended)-but):])
}

// wanted is a record to look at.
type wanted struct {
	sequence eventlog.Sequence
	of       *surveyed
}

// read looks at more of the last records of those streams of which it is not known yet whether
// they have ended.
func (s *survey) read(ctx context.Context, batch []*surveyed, looked, reach int) error {
	all := make([]wanted, 0, 3*len(batch))
	for _, x := range batch {
		n := len(x.Sequences)
		if x.lives = x.lives || !x.ended && looked >= n; x.ended || x.lives { // Nothing more could tell.
			continue
		}
		reach := reach
		if x.kind == "container" {
			reach = 1
		}
		for _, sequence := range x.Sequences[max(0, n-reach) : n-looked] {
			all = append(all, wanted{sequence, x})
		}
	}
	slices.SortFunc(all, func(a, b wanted) int { return cmp.Compare(a.sequence, b.sequence) })
	sequences := make([]eventlog.Sequence, len(all))
	for i := range all {
		sequences[i] = all[i].sequence
	}
	rest := all
	for r, err := range s.log.ReadAt(ctx, sequences) {
		if _, damage := errors.AsType[*eventlog.DamageError](err); damage || errors.Is(err, eventlog.ErrRemoved) {
			continue
		}
		if err != nil {
			return err
		}
		for ; rest[0].sequence < r.Sequence; rest = rest[1:] {
			rest[0].of.lives = true // Too little of it was found.
		}
		x := rest[0].of
		rest = rest[1:]
		if x.Stream != r.Stream {
			return fmt.Errorf("%w: record %d is of %s, not of %s", errUncertain, r.Sequence, r.Stream, x.Stream)
		}
		x.add(&r)
	}
	for _, w := range rest {
		w.of.lives = true
	}
	for _, w := range all {
		w.of.judge()
	}
	return nil
}

// add takes the next record of those that are looked at.
func (x *surveyed) add(r *eventlog.Record) {
	if x.kind == "container" {
		event, err := codec.DecodeContainer(r.Type, r.Schema, r.Payload)
		x.ended = err == nil && container.EndsWith(event)
		x.lives = !x.ended
		return
	}
	event, err := codec.DecodeSandbox(r.Type, r.Schema, r.Payload)
	x.lives = x.lives || err != nil
	x.found = append(x.found, event)
}

// judge decides whether the stream has ended, if what was found says so.
func (x *surveyed) judge() {
	if len(x.found) == 0 {
		return
	}
	x.tail, x.found = append(x.found, x.tail...), nil
	ended, known := sandbox.EndsWith(x.tail)
	x.ended, x.lives = ended && !x.lives, x.lives || known && !ended
}
