package stats

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxDevices bounds how many names of devices are remembered.
const maxDevices = 1024

// devices remembers the names of block devices.
type devices struct {
	mu    sync.Mutex
	names map[[2]uint64]string
}

func newDevices() devices { return devices{names: map[[2]uint64]string{}} }

// name is a device's name, like /dev/sda; its numbers if it has none.
func (d *devices) name(major, minor uint64) string {
	key := [2]uint64{major, minor}
	d.mu.Lock()
	name, is := d.names[key]
	d.mu.Unlock()
	if is {
		return name
	}
	name = fmt.Sprintf("%d:%d", major, minor)
	if target, err := os.Readlink("/sys/dev/block/" + name); err == nil {
		name = "/dev/" + text(filepath.Base(target))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.names) >= maxDevices {
		clear(d.names)
	}
	d.names[key] = name
	return name
}

// fileSystem is the one that a directory is on.
type fileSystem struct {
	device                    string
	bytes, inodes, inodesFree number
}

func (d *devices) fileSystem(path string) (f fileSystem) {
	var stat unix.Stat_t
	var fs unix.Statfs_t
	if unix.Stat(path, &stat) != nil || unix.Statfs(path, &fs) != nil {
		return f
	}
	f.device = d.name(uint64(unix.Major(stat.Dev)), uint64(unix.Minor(stat.Dev)))
	f.bytes = known(fs.Blocks).scaled(uint64(fs.Bsize))
	f.inodes, f.inodesFree = known(fs.Files), known(fs.Ffree)
	return f
}

// pageSizes are the sizes of huge pages that the kernel has, as cgroup files spell them.
func pageSizes() (sizes []string) {
	entries, _ := os.ReadDir("/sys/kernel/mm/hugepages") // without any there is no such directory
	for _, e := range entries {
		kilobytes, is := strings.CutPrefix(e.Name(), "hugepages-")
		size, err := strconv.ParseUint(strings.TrimSuffix(kilobytes, "kB"), 10, 64)
		if !is || err != nil {
			continue
		}
		unit := 0
		for unit < 2 && size >= 1024 && size%1024 == 0 {
			size, unit = size/1024, unit+1
		}
		sizes = append(sizes, fmt.Sprintf("%d%s", size, []string{"KB", "MB", "GB"}[unit]))
	}
	slices.Sort(sizes)
	return sizes
}
