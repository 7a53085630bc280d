// Package sim runs random lives of pods against a node that is made up, and kills
// the daemon wherever that could hurt: after every append, and before and after
// every effect. The machines, their codec and the log in memory are the real ones;
// the actors' shell, the kubelet and everything that a kernel does are small
// fakes, so that thousands of lives take seconds and need no root.
//
// Each run ends with every pod being stopped and removed, and checks that it
// comes to an end, that every caller got an answer, that nothing was used before
// it existed or taken away while in use, and that nothing is left on the node.
//
// Chance comes from a seed, which a failure names: go test -run TestChaos
// -sim.seed N shows the same run again, with all its steps.
//
// Read run.go first; world.go holds the rules of the node.
package sim
