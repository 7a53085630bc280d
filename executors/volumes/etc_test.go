package volumes

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/spec"
)

// CVE-2024-5154: an /etc that is a link out of the image gets nothing made on the node.
func TestMtabStaysInsideCVE2024_5154(t *testing.T) {
	rootfs, _ := image(t)
	step := []spec.Step{spec.MakeMtab{Rootfs: rootfs, UID: 1000, GID: 2000}}
	for range 2 {
		if err := Make(step); err != nil {
			t.Fatal(err)
		}
	}
	var stat unix.Stat_t
	if err := unix.Lstat(filepath.Join(rootfs, "etc/mtab"), &stat); err != nil || stat.Uid != 1000 || stat.Gid != 2000 {
		t.Errorf("%+v, %v", stat, err)
	}
	if dest, err := os.Readlink(filepath.Join(rootfs, "etc/mtab")); dest != "/proc/mounts" {
		t.Errorf("it leads to %q, %v", dest, err)
	}
	outside := t.TempDir()
	for _, link := range []string{outside, "../../../../../../../../../../" + outside} {
		if err := errors.Join(os.RemoveAll(filepath.Join(rootfs, "etc")), os.Symlink(link, filepath.Join(rootfs, "etc"))); err != nil {
			t.Fatal(err)
		}
		err := Make(step)
		if left, _ := os.ReadDir(outside); len(left) > 0 {
			t.Errorf("/etc leads to %s: %v on the node (%v)", link, left, err)
		}
	}
	if err := os.RemoveAll(filepath.Join(rootfs, "etc")); err != nil {
		t.Fatal(err)
	}
	if err := Make(step); err != nil {
		t.Errorf("without /etc: %v", err)
	}
}

// A time zone replaces what /etc/localtime is, and not what it leads to: that is another zone.
func TestSetTimezone(t *testing.T) {
	rootfs, _ := image(t)
	node := filepath.Join(t.TempDir(), "zone")
	utc, localtime := filepath.Join(rootfs, "usr/share/zoneinfo/Etc/UTC"), filepath.Join(rootfs, "etc/localtime")
	writeFiles(t, rootfs, map[string]string{"usr/share/zoneinfo/Etc/UTC": "utc", "usr/share/zoneinfo/Europe/Berlin": "berlin of the image"})
	for _, err := range []error{
		os.WriteFile(node, []byte("zone of the node"), 0o600), os.Symlink("/usr/share/zoneinfo/Etc/UTC", localtime),
		os.WriteFile(filepath.Join(rootfs, "etc/.localtime.stele"), []byte("of a killed try"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	set := func(zone string) error {
		return Make([]spec.Step{spec.SetTimezone{Rootfs: rootfs, Zone: zone, UID: 1000, GID: 2000}})
	}
	for range 2 {
		if err := set(node); err != nil {
			t.Fatal(err)
		}
		var stat unix.Stat_t
		if err := unix.Lstat(localtime, &stat); err != nil || stat.Mode != unix.S_IFREG|0o644 || stat.Uid != 1000 {
			t.Errorf("%+v, %v", stat, err)
		}
		for path, want := range map[string]string{localtime: "zone of the node", utc: "utc"} {
			if got, err := os.ReadFile(path); err != nil || string(got) != want {
				t.Errorf("%s has %q, %v", path, got, err)
			}
		}
	}
	if err := set("/usr/share/zoneinfo/Europe/Berlin"); err != nil {
		t.Fatal(err)
	}
	if dest, err := os.Readlink(localtime); dest != "/usr/share/zoneinfo/Europe/Berlin" {
		t.Errorf("it leads to %q, %v", dest, err)
	}
	if entries, _ := os.ReadDir(filepath.Join(rootfs, "etc")); len(entries) != 2 {
		t.Errorf("/etc has %v", entries)
	}
	outside := t.TempDir()
	for name, make := range map[string]func() error{
		"a directory": func() error { return errors.Join(os.Remove(localtime), os.MkdirAll(localtime+"/x", 0o755)) },
		"/etc outside": func() error {
			return errors.Join(os.RemoveAll(filepath.Dir(localtime)), os.Symlink(outside, filepath.Dir(localtime)))
		},
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if err := set(node); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(outside); len(left) > 0 {
			t.Errorf("%s: %v on the node", name, left)
		}
		_ = os.RemoveAll(filepath.Dir(localtime))
		if err := os.Mkdir(filepath.Dir(localtime), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFiles(t, rootfs, map[string]string{"etc/localtime": "old"})
	}
}
