// Package sim runs random lives of pods against a node that is made up, and lets go
// wrong whatever can: the daemon, the monitor and the node die, the disk is full or does
// not know what it did, effects fail, hang, panic and outlive their daemon, machines
// panic, exits are reported twice and in any order, callers give up, the clock jumps.
//
// What runs is what production runs: the machines, their codec, the entities' core, the
// router and the calls. Only what is around them is made up: a stage that plays one
// message, task or timer at a time in an order that chance draws (stage.go), a disk
// (log.go), a kernel with a runtime, a monitor and an image store (world.go), and a
// kubelet (kubelet.go). Thousands of lives take seconds and need no root.
//
// In each step it is checked that nothing is used before it exists or taken away while in
// use, that what was told stays true, and that nothing is done that nobody wants any more
// (check.go). In the end all goes well: everybody must get an answer, a pod of each kind
// must get ready, and every pod must end and leave nothing, within a bounded number of
// steps.
//
// Chance comes from a seed, which a failure names: go test -run TestChaos
// -sim.seed N shows the same run again, with all its steps.
//
// Read run.go first; world.go holds the rules of the node.
package sim
