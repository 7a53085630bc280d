// Package spec plans containers: from the CRI's configuration, the image's and
// facts about the node it makes the OCI runtime spec of a container and the list
// of what must be made before the runtime gets it (Container), and the spec of
// the process that holds a pod's shared PID namespace (Holder).
//
// It is a pure function over values: it has no access to the disk, the kernel or
// a root file system. What a plan depends on there, Ask lists as Questions;
// package facts looks, and hands the Answers in. What must be made are Steps,
// which package volumes carries out.
//
// Everything that comes in is hostile: the kubelet passes on what users wrote,
// and images hold what anybody built. Numbers are checked against their range,
// paths of an image stay inside its root file system, image labels reach nothing.
// ValidateSandbox and ValidateContainer need no answers, so that a request can be
// refused before anything is recorded; Ask and Container repeat them.
//
// The package must not know how a container is run, named or stored.
//
// Read input.go first, then questions.go and plan.go, then container.go, which
// lists the concepts in order.
package spec
