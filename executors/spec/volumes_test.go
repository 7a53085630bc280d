package spec

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
)

func TestVolumeIsACopy(t *testing.T) {
	in := fixture(t)
	in.Image.Config.Volumes = map[string]struct{}{"/app": {}}
	app := filepath.Join(in.Rootfs, "app")
	for _, err := range []error{
		os.WriteFile(filepath.Join(app, "tool"), []byte("x"), 0o755),
		os.Lchown(filepath.Join(app, "tool"), 1000, 2000),
		os.Chmod(filepath.Join(app, "tool"), 0o755|os.ModeSetuid),
		os.Symlink("/etc/passwd", filepath.Join(app, "link")),
		os.Chown(app, 1000, 1000),
		os.Chmod(app, 0o750),
		unix.Mkfifo(filepath.Join(app, "fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Container(in); err != nil {
		t.Fatal(err)
	}
	volume := filepath.Join(in.VolumesDir, "0")
	if b, err := os.ReadFile(filepath.Join(volume, "data/a")); err != nil || string(b) != "a" {
		t.Errorf("data/a: %q, %v", b, err)
	}
	var stat unix.Stat_t
	if err := unix.Lstat(filepath.Join(volume, "tool"), &stat); err != nil || stat.Uid != 1000 || stat.Gid != 2000 || stat.Mode&0o7777 != 0o4755 {
		t.Errorf("tool: %+v, %v", stat, err)
	}
	if err := unix.Lstat(volume, &stat); err != nil || stat.Uid != 1000 || stat.Mode&0o7777 != 0o750 {
		t.Errorf("the directory itself: %+v, %v", stat, err)
	}
	if dest, err := os.Readlink(filepath.Join(volume, "link")); err != nil || dest != "/etc/passwd" {
		t.Errorf("link: %q, %v", dest, err)
	}
	if _, err := os.Lstat(filepath.Join(volume, "fifo")); err == nil {
		t.Error("the FIFO was copied")
	}

	// A second call finds the volume; what a container wrote there stays.
	if err := os.WriteFile(filepath.Join(volume, "data/a"), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Container(in); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(volume, "data/a")); string(b) != "changed" {
		t.Error("the second call copied again")
	}
}

func TestVolumeHalfMade(t *testing.T) {
	in := fixture(t)
	in.Image.Config.Volumes = map[string]struct{}{"/app": {}}
	writeFiles(t, in.VolumesDir, map[string]string{"0.unfinished/junk": "x"})
	if _, err := Container(in); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(in.VolumesDir, "0/junk")); err == nil {
		t.Error("what a killed try left is in the volume")
	}
	if _, err := os.Stat(filepath.Join(in.VolumesDir, "0/data/a")); err != nil {
		t.Error(err)
	}
}

// CVE-2022-23648: a volume's path, and links on the way, stay in the image.
func TestVolumeStaysInside(t *testing.T) {
	secret := "outside/secret"
	for name, tc := range map[string]struct {
		volume string
		link   string
		err    bool
	}{
		"dots":             {volume: "/../../outside"},
		"absolute link":    {volume: "/evil", link: "$OUT"},
		"relative link":    {volume: "/evil", link: "../../../../../../../../$OUT"},
		"through a link":   {volume: "/evil/sub", link: "$OUT"},
		"link to the root": {volume: "/evil", link: "/", err: true},
		"root":             {volume: "/", err: true},
		"dots to the root": {volume: "/a/../..", err: true},
		"a file":           {volume: "/etc/motd", err: true},
		"NUL":              {volume: "/a\x00", err: true},
	} {
		t.Run(name, func(t *testing.T) {
			in := fixture(t)
			base := filepath.Dir(in.Rootfs)
			writeFiles(t, base, map[string]string{secret: "secret"})
			if tc.link != "" {
				link := os.Expand(tc.link, func(string) string { return filepath.Join(base, "outside") })
				if err := os.Symlink(link, filepath.Join(in.Rootfs, "evil")); err != nil {
					t.Fatal(err)
				}
			}
			in.Image.Config.Volumes = map[string]struct{}{tc.volume: {}}
			_, err := Container(in)
			if tc.err != (fault.KindOf(err) == fault.Invalid && err != nil) {
				t.Errorf("error %v", err)
			}
			filepath.WalkDir(in.VolumesDir, func(path string, d os.DirEntry, err error) error {
				if err == nil && d.Name() == "secret" {
					t.Errorf("the secret is at %s", path)
				}
				return nil
			})
		})
	}
}

func TestVolumeKeepsAttributes(t *testing.T) {
	in := fixture(t)
	in.Image.Config.Volumes = map[string]struct{}{"/app": {}}
	file := filepath.Join(in.Rootfs, "app/data/a")
	if err := unix.Setxattr(file, "user.note", []byte("kept"), 0); err != nil {
		// The file system of the temporary directory decides.
		t.Logf("no attributes here: %v", err)
		return
	}
	if _, err := Container(in); err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 16)
	n, err := unix.Getxattr(filepath.Join(in.VolumesDir, "0/data/a"), "user.note", value)
	if err != nil || string(value[:n]) != "kept" {
		t.Errorf("%q, %v", value[:max(n, 0)], err)
	}
}
