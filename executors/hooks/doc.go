// Package hooks adds the hooks that the node's administrator keeps in directories to the
// specifications of containers, as podman and CRI-O do: see oci-hooks(5).
//
// The directories are read for each container, so that a change counts at once and nothing
// has to be watched. It must not know pods, the CRI or how a container is run.
//
// Read hooks.go.
package hooks
