// Package podfiles makes what every container of a pod sees and no image brings:
// /etc/resolv.conf, /etc/hostname, /etc/hosts and /run/.containerenv (Write) and the tmpfs at
// /dev/shm (MountShm), in a directory of the pod's own. Each pod's share of the node's
// memory is bounded.
//
// It reads the pod's configuration and three files of the node, and knows nothing
// of containers: how a file gets into one is the OCI spec's business.
//
// Read files.go first.
package podfiles
