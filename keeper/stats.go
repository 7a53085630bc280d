package keeper

import (
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
}

// stats are read by others than the Keeper's goroutine.
type stats struct {
	mu  sync.Mutex
	now Stats
}

// Stats returns the figures as of the last step.
func (k *Keeper) Stats() Stats {
	k.stats.mu.Lock()
	defer k.stats.mu.Unlock()
	return k.stats.now
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
