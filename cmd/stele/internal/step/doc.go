// Package step is the terminal view of stele replay --step: one event after the other, with
// what it happened to before and after, and what became owed.
//
// The model is a pure function of records and keys, so that tests drive it without a terminal.
// States are folded by the machines, as everywhere. Read model.go first, then view.go.
package step
