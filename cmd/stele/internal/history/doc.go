// Package history opens the event log when a daemon starts, and sees to it that a damaged one costs
// little: backups, the states that the state directory keeps of everything that lives, and what
// takes the place of a log that cannot be opened.
//
// Read history.go first. restore.go tells a log what the node still knows; unexplained.go what
// nothing explains; kept.go keeps states; backups.go makes backups.
//
// It must not know how a daemon serves, nor touch what it finds on the node.
package history
