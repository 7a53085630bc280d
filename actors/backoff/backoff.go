// Package backoff says when an effect that failed is owed again: after one second at
// first, then twice as long each time, up to five minutes.
package backoff

import "time"

const (
	first = time.Second
	most  = 5 * time.Minute
)

// Retry is an effect that failed.
type Retry struct {
	Tries int
	// At is when it is owed again.
	At time.Time
}

// Schedule holds the effects that failed, by their key.
type Schedule map[string]Retry

// Next returns when an effect that has just failed is owed again.
func (s Schedule) Next(key string, now time.Time) time.Time {
	wait := first
	for range s[key].Tries {
		wait = min(2*wait, most)
	}
	return now.Add(wait)
}

// Failed notes that an effect has failed once more, and is owed again at a time.
func (s *Schedule) Failed(key string, at time.Time) {
	if *s == nil {
		*s = Schedule{}
	}
	(*s)[key] = Retry{Tries: (*s)[key].Tries + 1, At: at}
}

// Now makes all that failed due at once. How often it was tried still counts.
func (s Schedule) Now() {
	for key, r := range s {
		s[key] = Retry{Tries: r.Tries}
	}
}
