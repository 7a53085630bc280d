package config

import (
	"errors"
	"fmt"
	"strings"
)

// Network says where CNI is configured.
type Network struct {
	// ConfDir holds the network configurations.
	ConfDir string `toml:"conf_dir"`
	// PluginDirs are searched in order for plugins.
	PluginDirs []string `toml:"plugin_dirs"`
	// DisableHostPortMapping leaves host ports alone that no plugin maps.
	DisableHostPortMapping bool `toml:"disable_hostport_mapping"`
}

func defaultNetwork() Network {
	return Network{ConfDir: "/etc/cni/net.d", PluginDirs: []string{"/opt/cni/bin", "/usr/lib/cni"}}
}

func (n *Network) complete() error {
	err := absolute("network.conf_dir", &n.ConfDir)
	if len(n.PluginDirs) == 0 {
		err = errors.Join(err, refuse("network.plugin_dirs", "[]", "is empty, so that no plugin can be found"))
	}
	for i := range n.PluginDirs {
		key := fmt.Sprintf("network.plugin_dirs[%d]", i)
		if strings.Contains(n.PluginDirs[i], ":") {
			// CNI_PATH is separated by colons.
			err = errors.Join(err, refuse(key, n.PluginDirs[i], "has a colon, which CNI_PATH cannot carry"))
			continue
		}
		err = errors.Join(err, absolute(key, &n.PluginDirs[i]))
	}
	return err
}
