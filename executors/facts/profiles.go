package facts

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/spec/confine"
)

// readProfile reads a seccomp profile on the node, which must be a regular file.
func readProfile(path string) confine.Profile {
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

// maxAppArmorProfiles bounds the kernel's list of profiles, in bytes.
const maxAppArmorProfiles = 16 << 20

// appArmorLoaded looks for a profile among those that the kernel has.
func appArmorLoaded(name string) confine.Loaded {
	f, err := os.Open("/sys/kernel/security/apparmor/profiles")
	if err != nil {
		return confine.Loaded{Err: err}
	}
	defer f.Close()
	loaded, err := listsProfile(io.LimitReader(f, maxAppArmorProfiles), name)
	return confine.Loaded{Is: loaded, Err: err}
}

// listsProfile looks for a line "NAME (MODE)".
func listsProfile(r io.Reader, name string) (bool, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if i := strings.LastIndex(line, " ("); i >= 0 && line[:i] == name {
			return true, nil
		}
	}
	return false, lines.Err()
}
