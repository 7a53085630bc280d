// Package proc tells processes apart, asks the kernel how they ended, and kills
// them together with everything that they have started. Both the monitor and the
// daemon's client use it: when a monitor is lost, the client looks after its own
// execs.
//
// It reads /proc and pidfds, keeps nothing, and knows neither containers nor who
// waits for whom. Read identity.go first, then tree.go.
package proc
