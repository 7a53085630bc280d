// Package admin serves what `stele events`, `stele inspect`, `stele image` and `stele
// monitor` ask for, beside the CRI on the daemon's socket. Calls that read are answered
// from memory or from the event log; what changes something is asked of the actors, so
// that the log tells of it.
//
// Its errors are faults: cri/errors.go gives them their codes. It must not know gRPC's
// codes, and no driver but through parts.go. Read parts.go first.
package admin
