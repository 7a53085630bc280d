package cgroups

import "os"

// NodesDriver is the driver that the node's kubelet is expected to use: systemd's where systemd
// runs the node, since two programs that write the same cgroups get in each other's way.
func NodesDriver() Driver {
	// sd_booted(3)
	if info, err := os.Lstat("/run/systemd/system"); err == nil && info.IsDir() {
		return Systemd
	}
	return Cgroupfs
}
