// Package backoff says when a failed effect is owed again: after one second at first,
// then after twice as long each time, up to five minutes.
package backoff

import "time"

const (
	first = time.Second
	most  = 5 * time.Minute
)

// Counted is how many failures in a row are counted. More make no difference to the wait, and
// a failure that goes on for a year must not be a year of events that count.
const Counted = 20

// Retry is a failed effect.
type Retry struct {
	// Tries is how often it failed, up to Counted.
	Tries int
	// At is when it is owed again.
	At time.Time
}

// Schedule holds failed effects by their key.
type Schedule map[string]Retry

// Next returns when an effect that failed just now is owed again.
func (s Schedule) Next(key string, now time.Time) time.Time {
	wait := first
	for range s[key].Tries {
		wait = min(2*wait, most)
	}
	return now.Add(wait)
}

// Failed records that an effect failed once more and is owed again at a time.
func (s *Schedule) Failed(key string, at time.Time) {
	if *s == nil {
		*s = Schedule{}
	}
	(*s)[key] = Retry{Tries: min((*s)[key].Tries+1, Counted), At: at}
}

// Now makes every failed effect due at once. Its number of tries still counts.
func (s Schedule) Now() {
	for key, r := range s {
		s[key] = Retry{Tries: r.Tries}
	}
}
