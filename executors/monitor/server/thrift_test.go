package server

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Memory is given back once creations have ended and once more, not between them, and not without
// any.
func TestThrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var given atomic.Int64
		x := newThrift()
		go x.run(ctx, 5*time.Second, time.Minute, func() { given.Add(1) })
		time.Sleep(time.Minute)
		for range 3 {
			x.created()
			x.created()
			time.Sleep(4 * time.Second)
		}
		if synctest.Wait(); given.Load() != 0 {
			t.Errorf("given back %d times while containers are created", given.Load())
		}
		for i, want := range []int64{1, 2, 2} {
			time.Sleep(time.Minute)
			if synctest.Wait(); given.Load() != want {
				t.Errorf("minute %d: given back %d times, not %d", i, given.Load(), want)
			}
		}
		x.created()
		time.Sleep(10 * time.Second)
		x.created()
		time.Sleep(10 * time.Minute)
		if synctest.Wait(); given.Load() != 5 {
			t.Errorf("given back %d times behind a second creation", given.Load())
		}
	})
}
