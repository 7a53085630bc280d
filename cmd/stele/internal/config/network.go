package config

import (
	"errors"
	"fmt"
	"strings"
	"text/template"
)

// Network says where CNI is configured.
type Network struct {
	// ConfDir holds the network configurations.
	ConfDir string `toml:"conf_dir"`
	// PluginDirs are searched in order for plugins.
	PluginDirs []string `toml:"plugin_dirs"`
	// DisableHostPortMapping leaves host ports alone that no plugin maps.
	DisableHostPortMapping bool `toml:"disable_hostport_mapping"`
	// ConfTemplate is a template of a network configuration, which is filled with the ranges
	// that the kubelet reports and written to ConfDir; empty: somebody else configures the
	// network.
	ConfTemplate string `toml:"conf_template"`
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
	return errors.Join(err, templateFile("network.conf_template", n.ConfTemplate))
}

// templateFile checks a file with a Go template, unless its path is empty.
func templateFile(key, path string) error {
	if err := file(key, path); err != nil || path == "" {
		return err
	}
	if _, err := template.ParseFiles(path); err != nil {
		return refuse(key, path, "is no template: %w", err)
	}
	return nil
}
