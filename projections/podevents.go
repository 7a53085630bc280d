package projections

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/stele-runtime/stele/eventlog"
)

const (
	// podEventsKept and podEventsBytes are how many events a subscriber may lag behind,
	// and how much memory these may keep. They are kept once, for all subscribers.
	podEventsKept  = 4096
	podEventsBytes = 32 << 20
	// claimedWithin is how long after the daemon's start the first subscriber gets what
	// happened before it came.
	claimedWithin = 5 * time.Minute
)

// Place is the place of a pod event in the log.
type Place struct {
	Sequence eventlog.Sequence
	// Index counts the events of one record.
	Index uint32
}

func (p Place) before(other Place) bool {
	return p.Sequence < other.Sequence || p.Sequence == other.Sequence && p.Index < other.Index
}

// Bookmark keeps, beyond the daemon's end, the place of the first event that nobody got.
type Bookmark interface {
	// Load returns false if there is none.
	Load() (Place, bool, error)
	Save(Place) error
	Clear() error
}

// PodEvents publishes the turns in the lives of pods to subscribers: each once, in the
// log's order, with the pod as of that moment.
//
// Events go to whoever is subscribed. One newcomer also gets what happened while no daemon
// could deliver: from the place where the last daemon left its subscriber, or else from
// this daemon's start. Who goes away by itself misses what happens meanwhile.
//
// It never waits for subscribers. One that lags behind what is kept is overrun.
type PodEvents struct {
	bookmark Bookmark
	logger   *slog.Logger
	now      func() time.Time
	// saving is held while the bookmark is written; nobody waits for it.
	saving sync.Mutex

	mu sync.Mutex
	// kept are the last events, in order; first is the number of the first of them, and
	// bytes what they keep.
	kept  []PodEvent
	first uint64
	bytes int
	// reached is the last record of which the events are known.
	reached eventlog.Sequence
	// subscribers are in the order in which they came. The first one's place is the
	// bookmark's.
	subscribers []*Subscription
	// owed is the place from which on a newcomer gets what is kept; until then it is not
	// claimed. Nil if nothing is owed.
	owed  *Place
	until time.Time
	// expiry drops it then, even if nothing happens.
	expiry *time.Timer
	// moved is closed and replaced when there are new events.
	moved chan struct{}
	// ended is why no more events follow; nil until then.
	ended error
}

// noBookmark forgets.
type noBookmark struct{}

func (noBookmark) Load() (Place, bool, error) { return Place{}, false, nil }
func (noBookmark) Save(Place) error           { return nil }
func (noBookmark) Clear() error               { return nil }

func newPodEvents(bookmark Bookmark, logger *slog.Logger, now func() time.Time) *PodEvents {
	return &PodEvents{bookmark: bookmark, logger: logger, now: now, moved: make(chan struct{})}
}

// resume prepares for the records after the checkpoint.
func (p *PodEvents) resume(checkpoint eventlog.Sequence) {
	p.reached, p.until = checkpoint, p.now().Add(claimedWithin)
	place, found, err := p.bookmark.Load()
	if err != nil {
		p.logger.Warn("place of the last delivered pod event not known", "error", err)
	}
	if !found {
		return
	}
	// The pods as of what comes before the checkpoint are not known any more.
	if oldest := (Place{Sequence: checkpoint + 1}); place.before(oldest) {
		place = oldest
	}
	p.owed = &place
}

// from is the first record whose events may be owed, as far as the past is known: behind last if
// there is none.
func (p *PodEvents) from(last eventlog.Sequence) eventlog.Sequence {
	if p.owed == nil {
		return last + 1
	}
	return p.owed.Sequence
}

// begin ends the reading of the past. Without a bookmark, everything that comes from now on
// is owed.
func (p *PodEvents) begin(last eventlog.Sequence) {
	p.mu.Lock()
	next := Place{Sequence: last + 1}
	// What the log has lost in a power failure, it was not delivered.
	if p.owed == nil || next.before(*p.owed) {
		p.owed = &next
	}
	p.reached, p.until = last, p.now().Add(claimedWithin)
	p.expiry = time.AfterFunc(claimedWithin+time.Second, p.expire)
	p.mu.Unlock()
	p.save()
}

// publish adds a record's events.
func (p *PodEvents) publish(reached eventlog.Sequence, events []PodEvent) {
	p.expire()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reached = reached
	if len(events) == 0 || len(p.subscribers) == 0 && p.owed == nil {
		return
	}
	for _, e := range events {
		if p.owed != nil && e.place.before(*p.owed) && len(p.subscribers) == 0 {
			continue
		}
		e.number = p.first + uint64(len(p.kept))
		p.kept, p.bytes = append(p.kept, e), p.bytes+e.bytes()
	}
	for len(p.kept) > podEventsKept || p.bytes > podEventsBytes && len(p.kept) > 1 {
		p.forget(1)
	}
	for _, s := range p.subscribers {
		s.check()
	}
	close(p.moved)
	p.moved = make(chan struct{})
}

// forget drops the oldest events. The caller holds mu.
func (p *PodEvents) forget(n int) {
	for i := range p.kept[:n] {
		p.bytes -= p.kept[i].bytes()
		p.kept[i] = PodEvent{}
	}
	p.kept, p.first = p.kept[n:], p.first+uint64(n)
	if len(p.kept) == 0 {
		p.kept = nil
	}
}

// dropDelivered drops what every subscriber has that is not overrun. The caller holds mu.
func (p *PodEvents) dropDelivered() {
	least := p.first + uint64(len(p.kept))
	for _, s := range p.subscribers {
		if !s.isOver {
			least = min(least, s.done)
		}
	}
	if least > p.first {
		p.forget(int(least - p.first))
	}
}

// end tells subscribers that no more events follow.
func (p *PodEvents) end(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = why
	close(p.moved)
	if p.expiry != nil {
		p.expiry.Stop()
	}
}

// expire forgets what was owed to a newcomer that did not come.
func (p *PodEvents) expire() {
	p.mu.Lock()
	expired := p.owed != nil && len(p.subscribers) == 0 && p.now().After(p.until)
	if expired {
		p.owed = nil
		p.forget(len(p.kept))
	}
	p.mu.Unlock()
	if expired {
		p.save()
	}
}

// save writes the bookmark. If it is being written, the writer writes it once more.
func (p *PodEvents) save() {
	for {
		if !p.saving.TryLock() {
			return
		}
		place := p.mark()
		var err error
		if place == nil {
			err = p.bookmark.Clear()
		} else {
			err = p.bookmark.Save(*place)
		}
		p.saving.Unlock()
		if err != nil {
			p.logger.Warn("place of the last delivered pod event not saved", "error", err)
		}
		if same(place, p.mark()) {
			return
		}
	}
}

// mark is the place that the bookmark should have; nil for none.
func (p *PodEvents) mark() *Place {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.subscribers) > 0 {
		return new(p.subscribers[0].place)
	}
	return p.owed
}

func same(a, b *Place) bool { return a == b || a != nil && b != nil && *a == *b }

// Subscription is one subscriber's place.
type Subscription struct {
	events *PodEvents
	// next is the number of the next event. place is behind the last event that was
	// delivered, and done is that in numbers. What was there at the beginning ends before
	// the number backlog.
	next, done, backlog uint64
	place               Place
	// overrun is closed when the next event is not kept any more.
	overrun chan struct{}
	isOver  bool
}

// Subscribe begins a subscription. End must be called.
func (p *PodEvents) Subscribe() *Subscription {
	p.expire()
	p.mu.Lock()
	last := p.first + uint64(len(p.kept))
	s := &Subscription{events: p, next: last, backlog: last, place: Place{Sequence: p.reached + 1}, overrun: make(chan struct{})}
	if p.owed != nil && len(p.subscribers) == 0 {
		i, _ := slices.BinarySearchFunc(p.kept, *p.owed, func(e PodEvent, at Place) int {
			if e.place.before(at) {
				return -1
			}
			return 1
		})
		s.next, s.place = p.first+uint64(i), *p.owed
		p.owed = nil
	}
	s.done = s.next
	p.subscribers = append(p.subscribers, s)
	p.mu.Unlock()
	p.save()
	return s
}

// check notes whether the subscriber is overrun. The caller holds the events' mu.
func (s *Subscription) check() {
	if s.next < s.events.first && !s.isOver {
		s.isOver = true
		close(s.overrun)
	}
}

// Overrun is closed when the subscriber lags too far behind.
func (s *Subscription) Overrun() <-chan struct{} { return s.overrun }

// OverrunError says that a subscriber lags behind what is kept.
type OverrunError struct{}

func (*OverrunError) Error() string {
	return fmt.Sprintf("the subscriber is more than %d events, or the pods of more than %d MiB of events, behind", podEventsKept, podEventsBytes>>20)
}

// Next waits for the next event. Its error is an *OverrunError, the context's, or why no
// more events follow.
func (s *Subscription) Next(ctx context.Context) (PodEvent, error) {
	for {
		p := s.events
		p.mu.Lock()
		moved, ended := p.moved, p.ended
		switch {
		case s.isOver || s.next < p.first:
			p.mu.Unlock()
			return PodEvent{}, &OverrunError{}
		case s.next < p.first+uint64(len(p.kept)):
			e := p.kept[s.next-p.first]
			s.next++
			p.mu.Unlock()
			return e, nil
		}
		p.mu.Unlock()
		if ended != nil {
			return PodEvent{}, ended
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return PodEvent{}, context.Cause(ctx)
		}
	}
}

// Delivered notes that the subscriber has an event: no other one is to get it after the
// daemon's end.
func (s *Subscription) Delivered(e PodEvent) {
	p := s.events
	p.mu.Lock()
	s.place, s.done = Place{Sequence: e.place.Sequence, Index: e.place.Index + 1}, e.number+1
	p.dropDelivered()
	leads := len(p.subscribers) > 0 && p.subscribers[0] == s
	p.mu.Unlock()
	if leads {
		p.save()
	}
}

// End ends a subscription. byDaemon says that the subscriber did not go away by itself:
// what it has not got is owed to the next daemon's first subscriber.
func (s *Subscription) End(byDaemon bool) {
	p := s.events
	p.mu.Lock()
	i := slices.Index(p.subscribers, s)
	if i < 0 {
		p.mu.Unlock()
		return
	}
	p.subscribers = slices.Delete(p.subscribers, i, i+1)
	if len(p.subscribers) == 0 {
		if byDaemon || s.done < s.backlog {
			p.owed, p.until = new(s.place), p.now().Add(claimedWithin)
		} else {
			p.forget(len(p.kept))
		}
	}
	p.mu.Unlock()
	p.save()
}
