package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
	"golang.org/x/sys/unix"
)

// configMost bounds what is read of a configuration file, in bytes.
const configMost = 1 << 20

// errNoNetwork says that the folder has no usable configuration.
var errNoNetwork = errors.New("no CNI network is configured")

// loadNetwork returns the first valid configuration of a folder in lexical order.
// Invalid files are skipped; the error names them if no valid one is left.
func loadNetwork(dir string) (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(dir, []string{".conflist", ".conf", ".json"})
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", errNoNetwork, dir, err)
	}
	slices.Sort(files)
	var wrong []error
	for _, file := range files {
		list, err := loadFile(file)
		if err == nil {
			return list, nil
		}
		wrong = append(wrong, fmt.Errorf("%s: %w", file, err))
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("%w: no file in %s is valid: %w", errNoNetwork, dir, errors.Join(wrong...))
	}
	return nil, fmt.Errorf("%w: no configuration in %s", errNoNetwork, dir)
}

func loadFile(file string) (*libcni.NetworkConfigList, error) {
	b, err := readConfig(file)
	if err != nil {
		return nil, err
	}
	var list *libcni.NetworkConfigList
	if filepath.Ext(file) == ".conflist" {
		list, err = parseList(b, filepath.Dir(file))
	} else {
		list, err = parsePlugin(b)
	}
	if err != nil {
		return nil, err
	}
	if len(list.Plugins) == 0 {
		return nil, errors.New("it has no plugins")
	}
	// Otherwise the first pod would fail by it.
	if err := utils.ValidateNetworkName(list.Name); err != nil {
		return nil, fmt.Errorf("name %.100q: %w", list.Name, err)
	}
	return list, nil
}

// parsePlugin reads a file that configures one plugin.
func parsePlugin(b []byte) (*libcni.NetworkConfigList, error) {
	plugin, err := libcni.NetworkPluginConfFromBytes(b)
	if err != nil {
		return nil, err
	}
	list, err := json.Marshal(map[string]any{
		"name": plugin.Network.Name, "cniVersion": plugin.Network.CNIVersion,
		"plugins": []json.RawMessage{plugin.Bytes},
	})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(list)
}

// parseList reads a list of plugins. Unless it forbids it, plugins may have files
// of their own in dir/NAME, NAME being the network's: they follow those of the
// list.
func parseList(b []byte, dir string) (*libcni.NetworkConfigList, error) {
	list, err := libcni.NetworkConfFromBytes(b)
	if err != nil || list.LoadOnlyInlinedPlugins || utils.ValidateNetworkName(list.Name) != nil {
		return list, err
	}
	files, err := libcni.ConfFiles(filepath.Join(dir, list.Name), []string{".conf"})
	if err != nil || len(files) == 0 {
		return list, err
	}
	for _, file := range files {
		b, err := readConfig(file)
		if err != nil {
			return nil, err
		}
		plugin, err := libcni.NetworkPluginConfFromBytes(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		list.Plugins = append(list.Plugins, plugin)
	}
	return inlined(list)
}

// inlined returns the list with all its plugins in it: an attachment's record must
// have all that DEL needs.
func inlined(list *libcni.NetworkConfigList) (*libcni.NetworkConfigList, error) {
	whole := map[string]json.RawMessage{}
	if err := json.Unmarshal(list.Bytes, &whole); err != nil {
		return nil, err
	}
	plugins := make([]json.RawMessage, len(list.Plugins))
	for i, plugin := range list.Plugins {
		plugins[i] = plugin.Bytes
	}
	var err error
	if whole["plugins"], err = json.Marshal(plugins); err != nil {
		return nil, err
	}
	whole["loadOnlyInlinedPlugins"] = json.RawMessage("true")
	b, err := json.Marshal(whole)
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(b)
}

// readConfig reads a regular file; it does not block on a pipe.
func readConfig(file string) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read-only
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", file)
	}
	b, err := io.ReadAll(io.LimitReader(f, configMost+1))
	if err == nil && len(b) > configMost {
		err = fmt.Errorf("%s is longer than %d bytes", file, configMost)
	}
	return b, err
}
