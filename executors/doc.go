// Package executors carries out what the machines owe: it maps an effect to the
// drivers in its folders, and their results to an outcome. It decides and remembers
// nothing; what passes between callers and effects is in package handover.
//
// Every effect converges. Its resources are named after the id of their owner, so
// that an effect that is issued again, after a crash in its middle, finds what it
// left the first time.
//
// Read executor.go first, then pods.go, containers.go and fetcher.go, which are the
// effects on pods, on containers and those that bring images. layout.go says where
// things are.
package executors
