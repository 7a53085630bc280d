// Package cdi gives containers devices of the Container Device Interface: what a vendor's
// specification says must be in a container for a device to work (nodes, mounts, variables,
// hooks). Specifications are the administrator's, and read anew for each container that asks for
// a device. It must not know who asks, or why. Read cdi.go first.
package cdi
