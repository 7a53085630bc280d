package stats

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// maxWorkers bounds how many threads one call keeps busy.
const maxWorkers = 8

// parallel calls do with each number below n, until ctx is done. Each worker is an own
// goroutine; around wraps its whole work, and says on which thread it is, if that matters.
func parallel(ctx context.Context, n int, around func(work func(*thread)), do func(t *thread, i int)) {
	var next atomic.Int64
	work := func(t *thread) {
		for {
			i := int(next.Add(1)) - 1
			if i >= n || ctx.Err() != nil {
				return
			}
			do(t, i)
		}
	}
	var workers sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0), maxWorkers) {
		workers.Go(func() { around(work) })
	}
	workers.Wait()
}

func plain(work func(*thread)) { work(nil) }
