// Package handover keeps what passes between the callers of this daemon and the
// effects that serve them, in memory only: credentials of pulls (Credentials), the
// standard streams of commands (Execs) and how far pulls are (Pulls).
//
// None of it may or need be in the log, and none survives the daemon: an effect
// that does not find its caller here was begun by another daemon. The package
// knows neither drivers nor outcomes.
//
// Read credentials.go first.
package handover
