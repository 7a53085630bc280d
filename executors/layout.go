package executors

import (
	"path/filepath"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/executors/reachable"
)

// sandboxDir holds everything of a sandbox that a reboot ends.
func (c *Config) sandboxDir(s id.Sandbox) string {
	return filepath.Join(c.StateDir, "sandboxes", string(s))
}

func (c *Config) namespacesDir(s id.Sandbox) string {
	return filepath.Join(c.sandboxDir(s), "ns")
}

// NetworkPin is where a sandbox's own network namespace is pinned.
func (c *Config) NetworkPin(s id.Sandbox) string { return filepath.Join(c.namespacesDir(s), "net") }

// bundleDir is the OCI bundle of a container.
func (c *Config) bundleDir(of id.Container) string {
	return filepath.Join(c.StateDir, "containers", string(of))
}

// place is where the root of a user namespace reaches a root file system: a container's, or a
// holder's.
func (c *Config) place(name string) reachable.Place {
	return reachable.Place{Dir: filepath.Join(c.StateDir, "mapped"), Name: name}
}

// platformFile names the platform for which a container's runtime was chosen.
func (c *Config) platformFile(of id.Container) string {
	return filepath.Join(c.bundleDir(of), "platform")
}

// seccompSocket is where the runtime sends what reports a container's forbidden system calls. The
// name is short, since a socket's path may have 107 bytes; the monitor refuses one that is in use.
func (c *Config) seccompSocket(of id.Container) string {
	return filepath.Join(c.StateDir, "monitor", "s"+string(of)[:min(11, len(of))])
}

// joinedPID is the PID namespace that a container joins, pinned in its bundle.
func (c *Config) joinedPID(of id.Container) string {
	return filepath.Join(c.bundleDir(of), "joined-pid")
}

// volumesDir has a directory for each container that has volumes of its image.
func (c *Config) volumesDir() string { return filepath.Join(c.RootDir, "volumes") }

// volumesOf holds what a container writes to the volumes of its image.
func (c *Config) volumesOf(of id.Container) string {
	return filepath.Join(c.volumesDir(), string(of))
}
