package storage

import (
	"context"
	"testing"
)

func TestBackgroundEnds(t *testing.T) {
	b := newBackground()
	begun, inTurn, out := make(chan struct{}), 0, 0
	b.do(func(ending context.Context) {
		close(begun)
		<-ending.Done()
		inTurn++
	})
	<-begun
	b.do(func(ending context.Context) {
		if ending.Err() != nil {
			out++
		}
	})
	b.end()
	if inTurn != 1 || out != 1 {
		t.Errorf("%d and %d tasks have ended, want 1 and 1", inTurn, out)
	}
	b.do(func(context.Context) { t.Error("a task began after the end") })
	b.end()
}
