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
//	stdio    pipes and terminals, and how pipes are opened again
//	redo     keeps what was read and not written, for the next monitor
//	crilog   the format and the files of logs
//	cgroup   where the monitor is, and who ran out of memory
//	journal  what a monitor that starts again has to know
//
// This package joins them. server.go is the list of its parts; each has a file:
//
//	conn.go        requests and their answers
//	home.go        the directory, its lock and its sockets
//	containers.go  the containers, container.go one of them
//	create.go      creator: a container is made
//	output.go      outputs: what it writes, until that is in its log; losses.go
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
// # Going on
//
// A monitor that died is followed by another, which finds what the journal names
// (adopt.go, orphans.go), reopens pipes through the containers' processes
// (stdio/reopen.go) and is given by the daemon what that holds. What each can promise:
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
