package daemon

import (
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

const (
	// pullGarbage is how much garbage the heap may have, in bytes, before it is collected
	// while images are pulled: however many, as they share the heap.
	pullGarbage = 24 << 20
	// leastLive is what the heap keeps at least, in bytes, for a process just started.
	leastLive = 4 << 20
)

// Garbage decides how far the heap grows before garbage is collected. To unpack a layer, the
// libraries make some 3 MB of garbage, however small it is. In the small heap of a daemon at
// rest that is a collection or two a layer, which cost as much as the pull itself.
type Garbage struct {
	mu      sync.Mutex
	percent int // without pulls
	pulls   int
	inForce int
}

// NewGarbage has the heap grow by GCPercent.
func NewGarbage() *Garbage {
	debug.SetGCPercent(GCPercent)
	return &Garbage{percent: GCPercent, inForce: GCPercent}
}

// set changes by how much the heap grows without pulls, in percent of what is in use. During
// pulls it looks anew at how much that is: called now and then, it keeps a heap that grew from
// growing by as many times.
func (g *Garbage) set(percent int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.percent = percent
	g.apply()
}

func (g *Garbage) apply() {
	percent := g.percent
	if g.pulls > 0 {
		percent = percentFor(live())
	}
	if percent != g.inForce { // every change stops the process for a moment
		debug.SetGCPercent(percent)
		g.inForce = percent
	}
}

// Pulling is called when a pull begins. The function that it returns is called when it has
// ended.
func (g *Garbage) Pulling() (ended func()) {
	add := func(n int) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.pulls += n
		g.apply()
	}
	add(1)
	return sync.OnceFunc(func() { add(-1) })
}

// percentFor is by how much a heap of that many bytes grows while images are pulled.
func percentFor(live uint64) int {
	return max(GCPercent, int(pullGarbage*100/max(live, leastLive)))
}

// live is what was in use at the last collection, in bytes; 0 before the first.
func live() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
