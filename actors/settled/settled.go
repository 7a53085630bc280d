// Package settled finds the events of a stream that leave no trace: without them, the
// state at the stream's end is the same. Each machine says which of its events begin,
// end, or replace something; this package keeps count.
//
// A Stream must see the events of one stream in order, from the first one that is left.
// It must not know what any of them means.
package settled

import "slices"

// Stream is what is not settled yet of the events that it has seen. The zero value has
// seen none.
type Stream struct {
	episodes map[string]*episode
	latest   map[string]*latest
}

// episode is events that leave no trace once everything that they began has ended.
type episode struct {
	open   map[string]bool
	events []uint64
}

// latest is events of which only the newest counts.
type latest struct {
	// seen counts the events that stay whatever comes after them.
	seen int
	// event is the newest of the others, 0 if there is none, and rank its rank.
	event, rank uint64
}

// Begins notes an event that begins a part of an episode.
func (s *Stream) Begins(name, part string, event uint64) {
	e := s.episodes[name]
	if e == nil {
		e = &episode{open: map[string]bool{}}
		if s.episodes == nil {
			s.episodes = map[string]*episode{}
		}
		s.episodes[name] = e
	}
	e.open[part] = true
	e.events = append(e.events, event)
}

// Within notes an event that only changes what an episode has begun. It returns the events
// that leave no trace now: the event itself, if nothing is open.
func (s *Stream) Within(name string, event uint64) []uint64 {
	e := s.episodes[name]
	if e == nil {
		return []uint64{event}
	}
	e.events = append(e.events, event)
	return nil
}

// Ends notes an event that ends a part of an episode. It returns the events that leave no
// trace now: those of the whole episode, if nothing else is open.
func (s *Stream) Ends(name, part string, event uint64) []uint64 {
	e := s.episodes[name]
	if e == nil {
		return []uint64{event}
	}
	delete(e.open, part)
	e.events = append(e.events, event)
	if len(e.open) > 0 {
		return nil
	}
	delete(s.episodes, name)
	return e.events
}

// Latest notes an event that replaces those before it with the same key, up to its rank. The
// first keep of them stay all the same, and so does the newest. It returns the event
// that leaves no trace now, if there is one.
func (s *Stream) Latest(key string, keep int, rank, event uint64) []uint64 {
	l := s.latest[key]
	if l == nil {
		l = &latest{}
		if s.latest == nil {
			s.latest = map[string]*latest{}
		}
		s.latest[key] = l
	}
	switch {
	case l.seen < keep:
		l.seen++
		return nil
	case l.event == 0:
		l.event, l.rank = event, rank
		return nil
	case rank < l.rank:
		return []uint64{event}
	}
	replaced := l.event
	l.event, l.rank = event, rank
	return []uint64{replaced}
}

// Anew lets the events with a key count from the beginning; those before stay.
func (s *Stream) Anew(key string) { delete(s.latest, key) }

// Without removes from an episode the events that leave no trace for another reason, so
// that they are not returned again.
func (s *Stream) Without(name string, events []uint64) {
	if e := s.episodes[name]; e != nil {
		e.events = slices.DeleteFunc(e.events, func(event uint64) bool { return slices.Contains(events, event) })
	}
}
