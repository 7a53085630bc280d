// Package journal keeps what a monitor that starts again has to know: which
// containers there are, which exits the daemon has not acknowledged, and which
// sequence numbers were given. The format is in proto/monitor/v1/journal.proto.
//
// The file outlives the process, not the machine: it lies in the state directory
// and is not synced. A damaged end is put aside in a file of its own and
// reported, and numbering then skips far ahead, so that no number is given twice.
//
// It knows records and files; what a container is doing is its caller's
// business. Read journal.go first, then state.go (what the records add up to),
// file.go, and record.go for the framing.
package journal
