package cni

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"text/template"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
)

// templateFile is the name of the configuration that is made from a template.
const templateFile = "10-stele.conflist"

// Template is a network configuration without the addresses of the node's pods.
type Template struct {
	// Path is a Go template (text/template) of a list of plugins. It has the names that
	// containerd's conf_template has: .PodCIDR, .PodCIDRRanges and .Routes.
	Path string
	// ConfDir is the folder of network configurations.
	ConfDir string
}

// templateValues are what a template is filled with.
type templateValues struct {
	// PodCIDR is the first of PodCIDRRanges.
	PodCIDR       string
	PodCIDRRanges []string
	// Routes are the default routes of the ranges' families.
	Routes []string
}

// Fill writes the network configuration for pods with addresses of these ranges into the
// folder, whole or not at all, and reports whether that has changed anything. A folder in
// which somebody else has configured a network is left alone. The result must be a valid
// configuration.
func (t Template) Fill(ranges []netip.Prefix) (written bool, err error) {
	path := filepath.Join(t.ConfDir, templateFile)
	before, err := readConfig(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("fill the CNI configuration template: %w", err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := loadNetwork(t.ConfDir); err == nil {
			return false, nil
		}
	}
	filled, err := t.filled(ranges)
	if err != nil {
		return false, fmt.Errorf("fill the CNI configuration template %s: %w", t.Path, err)
	}
	if before != nil && bytes.Equal(before, filled) {
		return false, nil
	}
	if err := writeConfigFile(path, filled); err != nil {
		return false, fmt.Errorf("write the CNI configuration: %w", err)
	}
	return true, nil
}

func (t Template) filled(ranges []netip.Prefix) ([]byte, error) {
	text, err := readConfig(t.Path)
	if err != nil {
		return nil, err
	}
	parsed, err := template.New(filepath.Base(t.Path)).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, err
	}
	var values templateValues
	routes := map[bool]string{true: "0.0.0.0/0", false: "::/0"}
	for i, r := range ranges {
		if i == 0 {
			values.PodCIDR = r.String()
		}
		values.PodCIDRRanges = append(values.PodCIDRRanges, r.String())
		values.Routes = append(values.Routes, routes[r.Addr().Is4()])
	}
	filled := &boundedBuffer{left: configMost}
	if err := parsed.Execute(filled, values); err != nil {
		return nil, err
	}
	list, err := libcni.NetworkConfFromBytes(filled.Bytes())
	if err == nil {
		err = validList(list)
	}
	if err != nil {
		return nil, fmt.Errorf("what comes out is no network configuration: %w", err)
	}
	return filled.Bytes(), nil
}

func validList(list *libcni.NetworkConfigList) error {
	if len(list.Plugins) == 0 {
		return errors.New("it has no plugins")
	}
	if err := utils.ValidateNetworkName(list.Name); err != nil {
		return err
	}
	return nil
}

// boundedBuffer refuses what is more than a configuration may have.
type boundedBuffer struct {
	bytes.Buffer
	left int
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, fmt.Errorf("it is longer than %d bytes", configMost)
	}
	return b.Buffer.Write(p)
}

// writeConfigFile replaces a file, which survives a power failure afterwards. Until it is
// complete it has a name that is no configuration's.
func writeConfigFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".stele-*.new")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
