package logtest

import (
	"sync"
	"time"
)

// Clock is a clock that ticks once each time it is read, so that a test knows
// every time in a log.
type Clock struct {
	mu    sync.Mutex
	ticks int64
}

// NewClock returns a clock at its start.
func NewClock() *Clock { return &Clock{} }

// start is when the clock's wall time begins: in summer and not in UTC, to
// catch logs that keep the zone.
var start = time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.FixedZone("test", 7200))

// Now returns the wall time and ticks.
func (c *Clock) Now() time.Time { return start.Add(time.Duration(c.tick()) * time.Millisecond) }

// SinceBoot returns the time since boot and ticks.
func (c *Clock) SinceBoot() time.Duration { return time.Duration(c.tick()) * time.Millisecond }

func (c *Clock) tick() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ticks++
	return c.ticks
}
