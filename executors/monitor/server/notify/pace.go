package notify

import (
	"sync"
	"time"
)

// maxRate is how many calls of one container are answered a second, and how many at once. The
// monitor's time is no container's: one that makes more waits.
const maxRate = 1000

// Pace is a container's share of the monitor. The zero value is ready.
type Pace struct {
	mu sync.Mutex
	// spent is the number of calls in this second's share that are not made up for by time.
	spent float64
	last  time.Time
}

// Delay counts a call that was answered at now, and returns how long the next must wait.
func (p *Pace) Delay(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spent = max(0, p.spent-now.Sub(p.last).Seconds()*maxRate) + 1
	p.last = now
	if p.spent <= maxRate {
		return 0
	}
	return time.Duration((p.spent - maxRate) / maxRate * float64(time.Second))
}
