package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/stele-runtime/stele/executors/spec"
)

// Mounts is what containers get of the node, by CRI-O's keys.
type Mounts struct {
	// DefaultMountsFile lists, as SOURCE:DESTINATION, files and directories of the node of which
	// every container gets a copy; empty for none.
	DefaultMountsFile string `toml:"default_mounts_file"`
	// BindMountPrefix is where the daemon sees the node's root directory, if it is not "/": the
	// paths that pods mount are below it.
	BindMountPrefix string `toml:"bind_mount_prefix"`
}

func (m *Mounts) check() []error {
	problems := []error{file("runtime.default_mounts_file", m.DefaultMountsFile), dir("runtime.bind_mount_prefix", m.BindMountPrefix)}
	if problems[0] == nil {
		if _, err := m.DefaultMounts(); err != nil {
			problems = append(problems, refuse("runtime.default_mounts_file", m.DefaultMountsFile, "is no list of mounts: %w", err))
		}
	}
	if _, err := m.HostRoot(); err != nil && problems[1] == nil {
		problems = append(problems, refuse("runtime.bind_mount_prefix", m.BindMountPrefix, "cannot be resolved: %w", cause(err)))
	}
	return problems
}

// maxMountsFile bounds DefaultMountsFile, in bytes.
const maxMountsFile = 1 << 20

// DefaultMounts are those of the file, none without one.
func (m *Mounts) DefaultMounts() ([]spec.DefaultMount, error) {
	if m.DefaultMountsFile == "" {
		return nil, nil
	}
	list, err := os.Open(m.DefaultMountsFile)
	if err != nil {
		return nil, cause(err)
	}
	defer list.Close()
	text, err := io.ReadAll(io.LimitReader(list, maxMountsFile+1))
	if err != nil {
		return nil, cause(err)
	}
	if len(text) > maxMountsFile {
		return nil, fmt.Errorf("larger than %d bytes", maxMountsFile)
	}
	return spec.ParseDefaultMounts(string(text))
}

// HostRoot is BindMountPrefix without links, empty if that is the root directory.
func (m *Mounts) HostRoot() (string, error) {
	if m.BindMountPrefix == "" {
		return "", nil
	}
	root, err := filepath.EvalSymlinks(m.BindMountPrefix)
	if root == "/" {
		root = ""
	}
	return root, err
}
