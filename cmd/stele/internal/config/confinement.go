package config

// Confinement is what confines containers, by CRI-O's keys.
type Confinement struct {
	// SELinux gives containers labels, where the kernel has SELinux.
	SELinux bool `toml:"selinux"`
	// HostnetworkDisableSELinux leaves processes on the node's network without a label.
	HostnetworkDisableSELinux bool `toml:"hostnetwork_disable_selinux"`
}

func defaultConfinement() Confinement {
	return Confinement{SELinux: true, HostnetworkDisableSELinux: true}
}
