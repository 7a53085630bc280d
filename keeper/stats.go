package keeper

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Stats are what metrics show of a Keeper.
type Stats struct {
	// Compactions counts those since the start, Compaction is how long the last one took.
	Compactions uint64
	Compaction  time.Duration
	// Oldest is how long the node has been up since the oldest record of the log, or less.
	Oldest time.Duration
	// TooLarge: what lives takes more room than there should be, and nothing that has ended is
	// kept.
	TooLarge bool
	// Failures counts steps and compactions that failed since the start.
	Failures uint64
}

// stats are read by others than the Keeper's goroutine.
type stats struct {
	mu  sync.Mutex
	now Stats
	// unkept is why the last step failed, uncompacted why the last compaction did, while one is
	// worth its while.
	unkept, uncompacted error
}

// Stats returns the figures as of the last step.
func (k *Keeper) Stats() Stats {
	k.stats.mu.Lock()
	defer k.stats.mu.Unlock()
	return k.stats.now
}

// Health returns why the log may exceed its limits, or nil. Nothing is lost by it, and all else goes on:
// it is a Degraded error. What failed is tried again.
func (k *Keeper) Health() error {
	k.stats.mu.Lock()
	defer k.stats.mu.Unlock()
	if err := errors.Join(k.stats.unkept, k.stats.uncompacted); err != nil {
		return unkeptError{err}
	}
	return nil
}

type unkeptError struct{ cause error }

func (e unkeptError) Error() string {
	return fmt.Sprintf("the event log is not kept within its limits: %v", e.cause)
}

func (e unkeptError) Unwrap() error { return e.cause }

// Degraded tells the error from those of what does not work.
func (e unkeptError) Degraded() bool { return true }

// stepped notes the outcome of a step, compacting that of a compaction, or that there is no need
// of one.
func (s *stats) stepped(err error)    { s.note(&s.unkept, err) }
func (s *stats) compacting(err error) { s.note(&s.uncompacted, err) }

func (s *stats) note(of *error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *of = err; err != nil {
		s.now.Failures++
	}
}

func (s *stats) tooLarge() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.TooLarge
}

func (s *stats) setTooLarge(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.TooLarge = is
}

func (s *stats) setOldest(age time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Oldest = age
}

func (s *stats) compacted(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Compactions++
	s.now.Compaction = took
}
