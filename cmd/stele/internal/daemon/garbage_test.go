package daemon

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

func gcPercent() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func TestPullsMayMakeGarbage(t *testing.T) {
	runtime.GC()
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	expect := func(when string, ok func(uint64) bool) {
		t.Helper()
		if now := gcPercent(); !ok(now) {
			t.Errorf("%s the heap grows by %d %%", when, now)
		}
	}
	is := func(percent uint64) func(uint64) bool { return func(now uint64) bool { return now == percent } }
	more := func(now uint64) bool { return now > GCPercent }

	g := NewGarbage()
	expect("without pulls", is(GCPercent))
	first := g.Pulling()
	expect("in a pull", more)
	second := g.Pulling()
	g.set(restPercent)
	expect("in two pulls, at rest otherwise,", more)
	first()
	first()
	expect("in the second pull", more)
	small := gcPercent()
	large := make([]byte, 2*pullGarbage)
	runtime.GC()
	g.set(restPercent)
	expect("with much in use", func(now uint64) bool { return now < small })
	runtime.KeepAlive(large)
	second()
	expect("after the pulls", is(restPercent))
	g.set(GCPercent)
	expect("at work", is(GCPercent))
}

func TestGarbageOfPullsIsBounded(t *testing.T) {
	for _, test := range []struct {
		live uint64
		want int
	}{
		{0, 600},
		{1 << 20, 600},
		{12 << 20, 200},
		{24 << 20, 100},
		{1 << 40, GCPercent},
	} {
		if got := percentFor(test.live); got != test.want {
			t.Errorf("a heap of %d bytes grows by %d %%, want %d", test.live, got, test.want)
		}
	}
}
