// Package stdio makes what a container or exec reads and writes: pipes (pipes.go), or
// a terminal that its runtime hands over (console.go). It also opens the pipes of a
// process again that a monitor before this one has made (reopen.go).
//
// It knows descriptors and processes; who reads the pipes is its caller's business.
// Read pipes.go first.
package stdio
