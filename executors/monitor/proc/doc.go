// Package proc identifies processes, asks the kernel how they ended, and kills them with
// their descendants. The monitor uses it, and so does the daemon's client, which looks
// after its execs when a monitor is lost.
//
// It reads /proc and pidfds, has no state, and knows no containers. Read identity.go first, then tree.go.
package proc
