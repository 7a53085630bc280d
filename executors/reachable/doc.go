// Package reachable gives the root of a user namespace a way to its root file system. The
// daemon's directories are closed to all but the node's root (CVE-2024-25621), and the runtime's
// init, which moves into the root file system, is somebody else by then. A place is a directory
// of that somebody's alone, in one that lets everybody pass and nobody look. The package must
// not know what is shown there.
package reachable
