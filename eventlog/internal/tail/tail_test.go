package tail

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stele-runtime/stele/eventlog"
)

func TestAdvanceNeverGoesBack(t *testing.T) {
	var tail Tail
	tail.Advance(5)
	tail.Advance(3)
	if got := tail.Last(); got != 5 {
		t.Errorf("Last() = %d, want 5", got)
	}
}

func TestWaitReturnsWhenThereIsMore(t *testing.T) {
	var tail Tail
	var all sync.WaitGroup
	for beyond := range eventlog.Sequence(10) {
		all.Go(func() {
			if err := tail.Wait(t.Context(), beyond); err != nil || tail.Last() <= beyond {
				t.Errorf("waited for more than %d: %v, last is %d", beyond, err, tail.Last())
			}
		})
	}
	for last := range eventlog.Sequence(11) {
		tail.Advance(last)
	}
	all.Wait()
}

func TestWaitEnds(t *testing.T) {
	var tail Tail
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tail.Wait(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	first, second := errors.New("first"), errors.New("second")
	ended := make(chan error)
	go func() { ended <- tail.Wait(context.Background(), 0) }()
	tail.End(first)
	tail.End(second)
	if err := <-ended; !errors.Is(err, first) {
		t.Errorf("ended: %v", err)
	}
	tail.Advance(1)
	if err := tail.Wait(t.Context(), 0); !errors.Is(err, first) {
		t.Errorf("after the end: %v", err)
	}
	if err := tail.Ended(); !errors.Is(err, first) {
		t.Errorf("Ended() = %v", err)
	}
}
