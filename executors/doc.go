// Package executors carries out what the machines owe. It maps an effect to the
// drivers in its folders and their results to an outcome; it decides nothing and
// remembers nothing that the log does not, but for what must never be written
// down: credentials and the output of commands.
//
// Every effect converges. Its resources are named after the id of their owner,
// so that an effect that is issued again, after a crash in its middle, finds what
// it left the first time.
//
// Read executor.go first.
package executors
