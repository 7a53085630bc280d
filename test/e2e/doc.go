// Package e2e drives a real daemon over its socket, as the kubelet would, with
// real containers, networks and images, as root.
//
// New starts a daemon with directories, network, cgroups and a registry of its
// own, so that many can run side by side, also beside a machine's own. At the
// end of each test the pods are removed, the daemon is stopped, and the audit
// makes sure that nothing is left on the node; a data race or a panic that the
// daemon reports fails the test.
//
// The package must not know how Stele works inside: it speaks the CRI, runs the
// commands that a user runs, and looks at the node.
//
// Read harness.go first, then daemon.go (the process), client.go (the calls) and pod.go;
// life_test.go is the shortest story.
package e2e
