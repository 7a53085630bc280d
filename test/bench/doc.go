// Package bench measures Stele as those who wait for it see it, beside what else
// does the same work.
//
//	make bench
//
// BenchmarkPodLives asks a real daemon over its socket: how long each call of the CRI
// takes in the middle, with one pod and with eight at a time, how many pods live and
// die in a second, and which part of that the event log takes. BenchmarkLogs runs
// containers under the monitor and under conmon, and BenchmarkMemory 500 of them at a
// time under one monitor. BenchmarkPods measures the memory of daemon and monitor with 500 pods,
// BenchmarkHeld what of it actors and projections hold, BenchmarkIdle the CPU time that idle pods
// cost, BenchmarkStart a start with 500 pods and a million events. BenchmarkPull pulls images over the
// CRI, with skopeo and with containerd. BenchmarkStats asks for the stats of 50 and 500 pods,
// which are real to the kernel and have no runtime.
//
// BenchmarkPeers has Stele and containerd do the same in turn: lives of pods, with and without a seccomp
// profile, with their state on a tmpfs and on a disk; probes; pulls; many pods, for their memory, for
// lists and stats, and for bytes through a port-forward. The runtime does the same alone in between, so
// that what Stele adds to its time is seen. A part of it, as root, by the names of the sub-benchmarks
// and for as many rounds:
//
//	make bench-peers PEERS=lives/tmpfs-seccomp/pods=8 PEER_TIME=3x
//
// BenchmarkSteps splits the calls of a pod's life into the steps that the daemon's events show and the
// programs that it executes: runtime, CNI plugins, and what these execute.
//
//	make bench-steps STEPS=tmpfs-plain
//
// What is measured is what callers wait for. The machine's own part (runtime, CNI
// plugins, kernel, disk) is in it: compare only what ran on one machine.
//
// Read bench_test.go first, then peers_test.go and what it compares (lives_test.go, exec_test.go with
// bare_test.go, crowd_test.go), steps_test.go, monitor_test.go, memory_test.go, pods_test.go, held_test.go,
// start_test.go, pull_test.go and stats_test.go. Package peers runs containerd, command traced watches
// programs; report.go and comparison.go do the arithmetic, account_test.go, work_test.go and
// execs_test.go count.
package bench
