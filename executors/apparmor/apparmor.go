package apparmor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/moby/profiles/apparmor"
)

const (
	securityfs = "/sys/kernel/security"
	// maxProfiles bounds the kernel's list of profiles, in bytes.
	maxProfiles = 16 << 20
)

// Enabled reports whether the kernel has AppArmor, and it is on.
func Enabled() bool {
	b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && bytes.HasPrefix(b, []byte("Y"))
}

// Loaded reports whether the kernel has a profile.
func Loaded(name string) (bool, error) {
	f, err := os.Open(securityfs + "/apparmor/profiles")
	if errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("the kernel's AppArmor profiles can't be read: securityfs is not mounted on %s", securityfs)
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	return lists(io.LimitReader(f, maxProfiles), name)
}

// lists looks for a line "NAME (MODE)".
func lists(r io.Reader, name string) (bool, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if i := strings.LastIndex(line, " ("); i >= 0 && line[:i] == name {
			return true, nil
		}
	}
	return false, lines.Err()
}

// Load loads Stele's profile under a name, unless the kernel has it. Somebody may have unloaded all.
func Load(name string) error {
	loaded, err := Loaded(name)
	if err == nil && !loaded {
		err = apparmor.InstallDefault(name)
	}
	if err != nil {
		return fmt.Errorf("load the AppArmor profile %s: %w", name, err)
	}
	return nil
}

// CanHave reports whether the profile of that name is loaded, or can be: that takes the node's
// apparmor_parser.
func CanHave(name string) bool {
	if _, err := exec.LookPath("apparmor_parser"); err == nil {
		return true
	}
	loaded, err := Loaded(name)
	return err == nil && loaded
}
