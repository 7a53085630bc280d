package facts

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/spec/confine"
)

// ReadSeccomp reads a seccomp profile on the node, a regular file of at most a megabyte.
func ReadSeccomp(path string) confine.Profile {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return confine.Profile{Err: err}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return confine.Profile{Err: err}
	}
	if !info.Mode().IsRegular() {
		return confine.Profile{Err: fmt.Errorf("%s: not a regular file", path)}
	}
	data, err := readBounded(file, maxSeccompProfile)
	if err != nil {
		return confine.Profile{Err: fmt.Errorf("read %s: %w", path, err)}
	}
	return confine.Profile{Data: data}
}
