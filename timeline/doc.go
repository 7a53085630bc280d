// Package timeline turns records of the event log into what people ask after an incident:
// the pods, containers, pulls and the node, each with its moments in words, the steps of its
// start with their durations, and the reason of its end.
//
// It is pure: it reads no log and no clock, so the same records give the same answers on a
// live node, from the directory of a stopped daemon and on another machine. It must not know
// where records come from, nor how the answers are laid out. States are folded by the
// machines themselves.
//
// Read timeline.go first, then words.go (an event as a sentence), steps.go (where the time
// went), explain.go (why it died, or what it waits for), name.go (what a name means), point.go (a
// moment of the history), diff.go (what changed between two) and teller.go (one event after the
// other).
package timeline
