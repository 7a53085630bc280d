package bench

import (
	"sync"
	"testing"
	"time"
)

// work is what a daemon did, in all batches.
type work struct {
	count        int
	elapsed, cpu time.Duration
}

func (w *work) perSecond() float64 { return float64(w.count) / w.elapsed.Seconds() }

// cpuEach is in milliseconds.
func (w *work) cpuEach() float64 { return milliseconds(w.cpu) / float64(w.count) }

// do has a daemon do something a number of times, so many at a time. The other daemon rests
// meanwhile.
func (w *work) do(b *testing.B, p *peer, atOnce, count int, once func(i int) error) {
	b.Helper()
	p.account.settle(b)
	before, begun := p.account.spent(b), time.Now()
	var workers sync.WaitGroup
	next := make(chan int)
	for range atOnce {
		workers.Go(func() {
			for i := range next {
				if err := once(i); err != nil {
					b.Errorf("%s: %v", p.name, err)
				}
			}
		})
	}
	for i := range count {
		next <- i
	}
	close(next)
	workers.Wait()
	w.elapsed += time.Since(begun)
	// What was put off until after the answer counts, too.
	p.account.settle(b)
	w.cpu += p.account.spent(b) - before
	w.count += count
	if b.Failed() {
		b.FailNow()
	}
}
