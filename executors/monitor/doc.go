// Package monitor is the daemon's side of the monitor, the small process that
// outlives the daemon: it is the parent of `runtime create`, writes the
// containers' logs and keeps their exits (package server, below this one).
//
// A Client connects to the running monitor of a state directory or starts one, keeps
// the connection, and starts another monitor when that one is lost. It hands the new
// one its duplicates of every container's descriptors. What is in flight when a
// monitor is lost
//
//   - continues, if it is an exec whose process is running: the client has its pidfd;
//   - fails with ErrLost, if a retry could do something twice (Create, an exec that
//     is being started, an attachment);
//   - is retried otherwise.
//
// A monitor whose program is replaced (Upgrade) is not lost: only attachments fail.
//
// The package knows containers by their ids and processes by their identity; it
// must not know pods, the CRI or the event log. The protocol between the two
// processes is proto/monitor/v1.
//
// Read client.go first: a Client is a link (link.go: one session after another;
// launch.go: starting a monitor), the duplicates that it holds (held.go), the execs
// that run (execs.go), and the calls (calls.go, exec.go, attach.go, exits.go,
// losses.go, blocked.go, upgrade.go). session.go is one connection, call.go one request on it,
// execgap.go an exec without its monitor.
package monitor
