// Package facts looks at the node for what package spec plans with, and returns
// values: what the node can do at all (DetectHost, once) and what one plan depends
// on (Answer): host paths, mounts, devices, profiles, labels, and the account files
// and the working directory in the container's root file system.
//
// It changes nothing and decides nothing; which answers matter, the plan knows. A
// root file system is hostile: its files are opened inside it, never through a link
// that leads out, and read up to a bound.
//
// Read answer.go first.
package facts
