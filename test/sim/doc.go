// Package sim runs random lives of pods on a simulated node where whatever can go wrong
// does: the daemon, the monitor and the node die, the disk is full or loses answers,
// effects fail, hang, panic and outlive their daemon, machines panic, exits are reported
// twice and in any order, callers give up, the clock jumps.
//
// What runs is what production runs: the machines, their codec, the entities' core, the
// router and the calls. Only what is around them is simulated: a stage that plays one
// message, task or timer at a time in a random order (stage.go), a disk
// (log.go), a kernel with a runtime, a monitor and an image store (world.go), and a
// kubelet (kubelet.go). Thousands of lives take seconds and need no root.
//
// Each step is checked: nothing is used before it exists or removed while in use, answers
// stay true, and nothing is done that no caller wants any more (check.go). In the end the
// faults stop: every caller must get an answer, a pod of each kind must get ready, and every
// pod must end and leave nothing, within a bounded number of steps.
//
// A failure names its seed: go test -run TestChaos -sim.seed N shows the same run again,
// with all its steps.
//
// Read run.go first; world.go holds the rules of the node.
package sim
