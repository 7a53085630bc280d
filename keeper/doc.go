// Package keeper bounds the event log: it removes what has ended and is old, or more than
// there is room for, oldest first; and from what lives, the events that leave no trace.
//
// It must not know the actors, the CRI or a driver. What has not ended, the projections
// tell it. It decides nothing that a machine depends on: a state is the same before and
// after.
//
// Read limits.go first: what is kept. ages.go says how old a record is without a
// wall clock. ended.go finds what has ended, and settled.go what leaves no trace, each with a
// cursor that goes through the log once. keeper.go takes one step after the other.
package keeper
