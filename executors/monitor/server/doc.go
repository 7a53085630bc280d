// Package server is the monitor, which `stele-monitor` runs. It is the parent of
// `runtime create` and the subreaper of the containers. It holds their pipes, writes
// their logs, waits for their exits, and keeps these until the daemon has them.
//
// It must not know pods, images, the CRI or the event log, and must link neither
// gRPC, Kubernetes nor image libraries: it stays small, and is rarely
// replaced. Its parts are packages of their own:
//
//	reaper   starts children and learns how processes end
//	pump     moves output from pipes to logs, in one goroutine
//	stdio    pipes and terminals, and how pipes are opened again
//	redo     keeps what was read but not written, for the next monitor
//	crilog   the format and the files of logs
//	cgroup   joins a cgroup, and counts OOM kills
//	journal  what the next monitor has to know
//	notify   answers system calls that a seccomp filter reports
//
// This package joins them. server.go is the list of its parts; each has a file:
//
//	conn.go        requests and their answers
//	home.go        the directory, its lock and its sockets
//	containers.go  the containers, container.go one of them
//	create.go      creator: a container is made; thrift.go, what that needed is given back
//	output.go      outputs: what it writes, until that is in its log; losses.go
//	notifier.go    notifiers: its forbidden system calls, answered and counted
//	news.go        the last word on each container, for subscribers
//	exit.go        exits: from the kernel's word to the journal; follow.go, of processes
//	               that are no children
//	attach.go      clients of a container, input.go what they type
//	exec.go        execs: execprocess.go, what was started; orphans.go, those of before
//	runtime.go     runtimes: what create and exec run
//	adopt.go       successor: the containers of a monitor before this one
//	upgrade.go     upgrader: the program is replaced; gate.go, nothing is half done
//
// Read server.go first.
//
// # Continuity
//
// A monitor that died is followed by another, which finds what the journal names
// (adopt.go, orphans.go), reopens pipes through the containers' processes
// (stdio/reopen.go), and gets the daemon's duplicates. The guarantees:
//
//   - One of the two processes lives: nothing is lost. Pipes and terminals stay
//     open, and the survivor's pidfd shows how a process ended that another process
//     reaped (Linux 6.15; before that, such an exit is unknown).
//   - Both died: containers keep running, and logs of those with pipes continue
//     where they stopped, as long as a process of the container has the pipe open.
//     Terminals hang up: the kernel sends SIGHUP, and the exit says so. A container
//     that ends before the next monitor starts has an unknown exit, with the reason.
//   - Upgrade (upgrade.go): the program is replaced in the same process, at a moment
//     when nothing is half done, and keeps its descriptors.
//
// Execs die with the daemon, whatever happened to the monitor: those of a daemon that
// is gone are killed when the next one has connected.
//
// # Placement
//
// The monitor stays in the cgroup of the daemon that started it, or joins the one given
// by -cgroup. It is never in a pod's cgroup, into which a runtime moves only its own
// children, so no pod's memory limit applies to it. It lowers its oom_score_adj as far
// as it may, and gives runtimes the original value.
package server
