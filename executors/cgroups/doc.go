// Package cgroups knows where a container's cgroup is and how to remove it.
//
// The OCI runtime makes the cgroups and sets the limits. This package tells it
// where (Manager.ContainerPath), refuses parents that lead elsewhere
// (ValidateParent), and removes what a killed runtime may leave, and the cgroup of
// a pod that was given no parent (Manager.RemoveContainer, Manager.RemoveSandbox).
// Of a container that runs it changes what no runtime's update does (limits.go). A wait of the
// kernel before the first migration into a cgroup is begun early (warm.go).
//
// It handles the three layouts a node can have: v1 (one hierarchy for each
// controller), hybrid (v1 plus a v2 hierarchy without controllers) and v2. It
// must not know pods, the CRI's messages, or the runtime's state files; and it
// never changes a cgroup that isn't named after an id that it was given.
//
// Read layout.go first, then path.go and remove.go.
package cgroups
