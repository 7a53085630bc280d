package stats

import (
	"maps"
	"math"
	"sync"
	"time"
)

const (
	// minWindow is the shortest time over which CPU usage is averaged. Within it, callers
	// get the same average: two callers that ask one after the other do not spoil each
	// other's.
	minWindow = 5 * time.Second
	// maxWindow is the longest. Samples that are older are forgotten, so that there are no
	// more of them than there were cgroups in that time.
	maxWindow = 5 * time.Minute
)

// rates average CPU usage between two reads: "Total CPU usage (sum of all cores) averaged
// over the sample window", says the CRI.
type rates struct {
	mu    sync.Mutex
	last  map[string]sample
	swept time.Time
}

// sample is a cgroup's CPU time at a moment, and the average until then.
type sample struct {
	at    time.Time
	total uint64 // nanoseconds
	cores number // in billionths
}

func (s sample) read() time.Time { return s.at }

// of returns the average of a cgroup that has used total nanoseconds at a moment. The
// first time it is over the life of the cgroup, if that began, at zero, at a time that is
// known and not long ago; otherwise it is not known.
func (r *rates) of(cgroup string, at time.Time, total number, since time.Time) number {
	if !total.known {
		return number{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	forget(r.last, &r.swept, at, maxWindow)
	before, is := r.last[cgroup]
	age := at.Sub(before.at)
	switch {
	case !is, total.value < before.total, age > maxWindow: // a new one, or one that was made again
		before = sample{at: since}
		age = at.Sub(since)
		if age > maxWindow {
			age = 0
		}
	case age < minWindow:
		return before.cores
	}
	now := sample{at: at, total: total.value}
	if age > 0 {
		now.cores = known(uint64(min(float64(total.value-before.total)/age.Seconds(), math.MaxInt64)))
	}
	r.last[cgroup] = now
	return now.cores
}

// forget removes what was read of cgroups longer than a window before now, at most once in
// each window.
func forget[T interface{ read() time.Time }](last map[string]T, swept *time.Time, now time.Time, window time.Duration) {
	if now.Sub(*swept) < window {
		return
	}
	*swept = now
	maps.DeleteFunc(last, func(_ string, of T) bool { return now.Sub(of.read()) > window })
}
