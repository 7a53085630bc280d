// Package spec turns what the CRI asks for into what an OCI runtime needs: the
// runtime spec of a container (Container) and of the process that holds a pod's
// shared PID namespace (Holder).
//
// Everything that comes in is hostile: the kubelet passes on what users wrote,
// and images hold what anybody built. Files of a root file system are opened
// inside it and read up to a bound; numbers are checked against their range;
// image labels reach nothing. ValidateSandbox and ValidateContainer do all the
// checks that need no I/O, so that a request can be refused before anything is
// recorded; Container makes them again.
//
// The package must not know how a container is run, named or stored: it gets
// paths and returns a spec. Whatever it makes on disk (a working directory in
// the root file system, copies of image volumes, missing host directories) is
// found and left alone when it is asked again.
//
// Read input.go first, then container.go, which lists the steps in order.
package spec
