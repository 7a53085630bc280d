// Package admin serves the tools (`stele events`, `inspect`, `image`, `monitor`) on the
// CRI's socket. Reads are answered from memory or the event log; changes go through the
// actors, so that the log records them.
//
// Its errors are faults, which cri/errors.go turns into gRPC codes. It must not know the
// codes, nor any driver except through parts.go. Read parts.go first.
package admin
