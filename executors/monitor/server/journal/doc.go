// Package journal keeps what the next monitor has to know: which containers and execs
// there are, which exits the daemon has not acknowledged, and which sequence numbers
// were used. The format is in proto/monitor/v1/journal.proto.
//
// The file outlives the process, not the machine: it is in the state directory and is
// not synced. A damaged end is moved to a separate file and reported, and numbering
// then skips far ahead, so that no number is used twice.
//
// It knows records and files; what a container does is its caller's business. Read journal.go first, then state.go (what the records add up to),
// file.go, and record.go for the framing.
package journal
