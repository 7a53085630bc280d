// Package bench measures a real daemon over its socket: how long each call of the
// CRI takes in the middle, with one pod and with eight at a time, how many pods
// live and die in a second, and which part of that the event log takes.
//
//	make bench
//
// What is measured is what the kubelet waits for. The machine's own part (runtime,
// CNI plugins, kernel) is in it: compare only what ran on one machine.
//
// Read bench_test.go first; report.go does the arithmetic.
package bench
