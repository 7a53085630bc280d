// Package crilog writes a container's output to a file in the format that the
// kubelet reads: one record a line,
//
//	2026-01-02T15:04:05.000000000Z stdout F text of the line
//
// of a time (RFC 3339, nanoseconds, UTC), the stream, a tag and the content,
// which may be any bytes but a newline. F (full) ends a line of the container;
// P (partial) is a piece of a line that continues in the stream's next record, or ends
// with the stream.
//
// It formats batches of output (format.go, batch.go, append.go), owns the file
// (file.go, dir.go), and completes a killed process's writes (resume.go); the source
// of the bytes is its caller's business. It is not safe for concurrent use. Read
// format.go first.
package crilog
