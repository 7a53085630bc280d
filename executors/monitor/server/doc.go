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
// container.go (what is known of a container), create.go and console.go, exec.go
// and execprocess.go, attach.go, exit.go (from the kernel's word to the journal),
// losses.go. Read server.go first.
//
// # Going on
//
// A monitor that died is followed by another, which finds what the journal names
// (adopt.go, orphans.go), reopens pipes through the containers' processes
// (reopen.go) and is given by the daemon what that holds. What each can promise:
//
//   - One of the two processes lives: nothing is lost. Pipes and terminals stay
//     open, and the pidfd that the survivor holds tells how a process ended that
//     somebody else waited for (Linux 6.15; before that, such an exit is unknown).
//   - Both died: containers run on, and those with pipes are logged from where the
//     pipes were left, as long as one of their processes has them open. A terminal
//     hangs up: the kernel sends SIGHUP, and the exit says so. What ends before the
//     next monitor starts has an unknown exit, with the reason.
//   - Upgrade (upgrade.go): the program is replaced in the same process, in a
//     moment when nothing is half done, and keeps the descriptors.
//
// Execs die with the daemon, whatever became of the monitor: those of a daemon that
// is gone are killed when the next one has connected.
//
// # Placement
//
// The monitor stays in the cgroup of the daemon that started it, or goes into the
// one of its -cgroup. It is never in a pod's: a runtime moves only its own children
// there. So no pod's memory limit reaches it. It asks for the lowest oom_score_adj that it may have, and gives
// runtimes back the one that it started with.
package server
