// Package client connects the tools to a history: a daemon's by its socket or, if it is not
// running, by its event log, or that of a file of stele log export.
//
// It must not know what is done with the answers, which package show renders, and reads a
// daemon's directory only on Linux (root_linux.go). Read source.go first, then timeline.go (which
// records an answer needs), export.go and verify.go.
package client
