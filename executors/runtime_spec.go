package executors

import (
	"os"
	"path/filepath"

	"github.com/stele-runtime/stele/actors/id"
)

// RuntimeSpec returns the OCI spec that a container was made with; fs.ErrNotExist if it
// is gone, or not made yet.
func (x *Executor) RuntimeSpec(c id.Container) ([]byte, error) { return x.runtimeSpec(c) }

func (c *Config) runtimeSpec(of id.Container) ([]byte, error) {
	return os.ReadFile(filepath.Join(c.bundleDir(of), "config.json"))
}
