// Package volumes carries out the steps of a plan (package spec): it makes the
// directories that a container's mounts and its working directory need, copies
// what an image has in the place of its volumes and what the administrator gives
// to all containers, and labels what a container may use. What is there already is
// left alone.
//
// Root file systems are hostile: nothing is read or made through a link that leads
// out of them.
//
// Read make.go first.
package volumes
