// Package server is the monitor: what `stele-monitor` runs. It is the parent of
// `runtime create`, the subreaper of the containers, the owner of their pipes,
// and the one who writes their logs, waits for their exits, and keeps these until
// the daemon has them.
//
// It must not know pods, images, the CRI or the event log, and must link neither
// gRPC, Kubernetes nor image libraries: it stays small, and rarely needs to be
// replaced. Its parts are packages of their own:
//
//	reaper   starts children and learns how processes end
//	pump     moves output from pipes to logs, in one goroutine
//	crilog   the format and the files of logs
//	journal  what a monitor that starts again has to know
//
// This package joins them: server.go (start and end), conn.go (requests),
// container.go (what is known of a container), create.go, exec.go, exit.go (from
// the kernel's word to the journal), adopt.go (going on with the containers of a
// monitor that died). Read server.go first.
//
// # Placement
//
// The monitor stays in the cgroup of the daemon that started it. It is never in
// a pod's: a runtime moves only its own children there. So no pod's memory limit
// reaches it. It asks for the lowest oom_score_adj that it may have, and gives
// runtimes back the one that it started with.
package server
