package keeper

import (
	"testing"

	"github.com/stele-runtime/stele/eventlog"
)

func TestLimits(t *testing.T) {
	const mib = 1 << 20
	limits := DefaultLimits()
	for what, c := range map[string]struct {
		used, free               int64
		pressed, still, compacts bool
	}{
		"empty":                  {used: 1 * mib},
		"a step of the file":     {used: 1 * mib, free: 16 * mib},
		"half":                   {used: 512 * mib, free: 20 * mib},
		"much was removed":       {used: 100 * mib, free: 200 * mib, compacts: true},
		"what goes on":           {used: 850 * mib, free: 20 * mib, still: true},
		"what begins":            {used: 900 * mib, free: 10 * mib, pressed: true, still: true},
		"free space is too much": {used: 800 * mib, free: 190 * mib, compacts: true},
		"too large":              {used: 2000 * mib, free: 10 * mib, pressed: true, still: true},
	} {
		u := eventlog.Usage{Bytes: c.used + c.free, Free: c.free}
		if limits.pressed(u, false) != c.pressed || limits.pressed(u, true) != c.still || limits.sparse(u) != c.compacts {
			t.Errorf("%s: pressed %t, still %t, compacts %t", what, limits.pressed(u, false), limits.pressed(u, true), limits.sparse(u))
		}
	}
	// The least that can be configured leaves room for something.
	limits.Bytes = MinBytes
	if limits.pressed(eventlog.Usage{Bytes: 20 * mib}, true) {
		t.Error("nothing can be kept")
	}
}
