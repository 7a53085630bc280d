package server

import "testing"

// Those who wait from before see it happen as those do who ask afterwards, and nobody does earlier.
func TestLatch(t *testing.T) {
	var waited, alone latch
	before, again := waited.done(), waited.done()
	for name, l := range map[string]*latch{"waited for": &waited, "not waited for": &alone} {
		if l.happened() {
			t.Errorf("%s: it happened before it did", name)
		}
		l.happen()
		if !l.happened() {
			t.Errorf("%s: it did not happen", name)
		}
	}
	for name, done := range map[string]<-chan struct{}{
		"before": before, "before, as the second": again, "afterwards": waited.done(), "afterwards, as the first": alone.done(),
	} {
		select {
		case <-done:
		default:
			t.Errorf("who waits from %s waits on", name)
		}
	}
}
