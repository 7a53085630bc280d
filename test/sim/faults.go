package sim

// faults decide what goes wrong.
type faults struct {
	*run
	// sticky are the effects that fail until the trouble is over.
	sticky map[string]bool
}

// trouble reports whether anything can go wrong now.
func (r *faults) trouble() bool { return r.chaos && !r.settling }

func (r *faults) hangs() bool { return r.trouble() && r.rand.IntN(60) == 0 }

// repeats: the monitor does not learn that a report was taken, and repeats it.
func (r *faults) repeats() bool { return r.trouble() && r.rand.IntN(4) == 0 }

func (r *faults) mayPanic(where string) {
	if r.trouble() && r.rand.IntN(2500) == 0 {
		r.note("    a panic in %s", where)
		panic("a bug in " + where)
	}
}

// stuck reports whether an effect fails now, and whenever it is tried, until the trouble
// is over.
func (r *faults) stuck(key string) bool {
	if r.settling || r.broken == 0 {
		return false
	}
	if !r.sticky[key] && r.rand.IntN(100) == 0 {
		r.sticky[key] = true
	}
	return r.sticky[key]
}
