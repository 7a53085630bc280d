package volumes

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// image returns a small root file system, and where a volume of it may be made.
func image(t *testing.T) (rootfs, volume string) {
	t.Helper()
	dir := t.TempDir()
	rootfs = filepath.Join(dir, "rootfs")
	writeFiles(t, rootfs, map[string]string{"app/data/a": "a", "etc/motd": "hello"})
	return rootfs, filepath.Join(dir, "volumes/0")
}

// writeFiles makes files with their directories.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVolumeIsACopy(t *testing.T) {
	rootfs, volume := image(t)
	app := filepath.Join(rootfs, "app")
	step := spec.FillVolume{Rootfs: rootfs, Path: "/app", Dir: volume}
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
	if err := Make([]spec.Step{step}); err != nil {
		t.Fatal(err)
	}
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
	if err := Make([]spec.Step{step}); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(volume, "data/a")); string(b) != "changed" {
		t.Error("the second call copied again")
	}
}

func TestVolumeThatTheImageLacks(t *testing.T) {
	rootfs, volume := image(t)
	if err := fill(spec.FillVolume{Rootfs: rootfs, Path: "/var/lib/db", Dir: volume, UID: 999, GID: 998}); err != nil {
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Lstat(volume, &stat); err != nil || stat.Uid != 999 || stat.Gid != 998 || stat.Mode&0o7777 != 0o755 {
		t.Errorf("%+v, %v", stat, err)
	}
}

func TestAppendLine(t *testing.T) {
	for before, want := range map[string]string{
		"":                     "new:x\n",
		"root:x:0\n":           "root:x:0\nnew:x\n",
		"root:x:0":             "root:x:0\nnew:x\n",
		"root:x:0\nnew:x\n":    "root:x:0\nnew:x\n",
		"root:x:0\nnotnew:x\n": "root:x:0\nnotnew:x\nnew:x\n",
	} {
		rootfs, _ := image(t)
		writeFiles(t, rootfs, map[string]string{"etc/passwd": before})
		for range 2 {
			if err := Make([]spec.Step{spec.AppendLine{Rootfs: rootfs, Path: "/etc/passwd", Line: "new:x"}}); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(filepath.Join(rootfs, "etc/passwd")); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", before, got, err)
		}
	}
	rootfs, _ := image(t)
	outside := filepath.Join(t.TempDir(), "passwd")
	for _, err := range []error{
		os.WriteFile(outside, []byte("root"), 0o644), os.Symlink(outside, filepath.Join(rootfs, "etc/passwd")),
		unix.Mkfifo(filepath.Join(rootfs, "etc/group"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/etc/passwd", "/etc/group"} {
		if err := Make([]spec.Step{spec.AppendLine{Rootfs: rootfs, Path: path, Line: "evil"}}); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
	if got, _ := os.ReadFile(outside); string(got) != "root" {
		t.Errorf("a file of the node has %q", got)
	}
}

func TestVolumeHalfMade(t *testing.T) {
	rootfs, volume := image(t)
	writeFiles(t, volume+".unfinished", map[string]string{"junk": "x"})
	if err := fill(spec.FillVolume{Rootfs: rootfs, Path: "/app", Dir: volume}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(volume, "junk")); err == nil {
		t.Error("what a killed try left is in the volume")
	}
	if _, err := os.Stat(filepath.Join(volume, "data/a")); err != nil {
		t.Error(err)
	}
}

// CVE-2022-23648: links on the way to a volume's place stay in the image.
func TestVolumeStaysInside(t *testing.T) {
	secret := "outside/secret"
	for name, tc := range map[string]struct {
		volume string
		link   string
		err    bool
	}{
		"absolute link":    {volume: "/evil", link: "$OUT"},
		"relative link":    {volume: "/evil", link: "../../../../../../../../$OUT"},
		"through a link":   {volume: "/evil/sub", link: "$OUT"},
		"link to the root": {volume: "/evil", link: "/", err: true},
		"a file":           {volume: "/etc/motd", err: true},
		"NUL":              {volume: "/a\x00", err: true},
	} {
		t.Run(name, func(t *testing.T) {
			rootfs, volume := image(t)
			base := filepath.Dir(rootfs)
			writeFiles(t, base, map[string]string{secret: "secret"})
			if tc.link != "" {
				link := os.Expand(tc.link, func(string) string { return filepath.Join(base, "outside") })
				if err := os.Symlink(link, filepath.Join(rootfs, "evil")); err != nil {
					t.Fatal(err)
				}
			}
			err := fill(spec.FillVolume{Rootfs: rootfs, Path: tc.volume, Dir: volume})
			if tc.err != (fault.KindOf(err) == fault.Invalid && err != nil) {
				t.Errorf("error %v", err)
			}
			filepath.WalkDir(filepath.Dir(volume), func(path string, d os.DirEntry, err error) error {
				if err == nil && d.Name() == "secret" {
					t.Errorf("the secret is at %s", path)
				}
				return nil
			})
		})
	}
}

func TestVolumeKeepsAttributes(t *testing.T) {
	rootfs, volume := image(t)
	file := filepath.Join(rootfs, "app/data/a")
	if err := unix.Setxattr(file, "user.note", []byte("kept"), 0); err != nil {
		// The file system of the temporary directory decides.
		t.Logf("no attributes here: %v", err)
		return
	}
	if err := fill(spec.FillVolume{Rootfs: rootfs, Path: "/app", Dir: volume}); err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 16)
	n, err := unix.Getxattr(filepath.Join(volume, "data/a"), "user.note", value)
	if err != nil || string(value[:n]) != "kept" {
		t.Errorf("%q, %v", value[:max(n, 0)], err)
	}
}

func TestMakeWorkingDir(t *testing.T) {
	rootfs, _ := image(t)
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(rootfs, "out")); err != nil {
		t.Fatal(err)
	}
	step := func(path string) []spec.Step {
		return []spec.Step{spec.MakeWorkingDir{Field: "working_dir", Rootfs: rootfs, Path: path}}
	}
	for range 2 {
		if err := Make(step("/srv/app")); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(filepath.Join(rootfs, "srv/app")); err != nil || !info.IsDir() {
		t.Error(err)
	}
	for _, path := range []string{"/etc/motd", "/etc/motd/x"} {
		err := Make(step(path))
		if fe, ok := errors.AsType[*refusal.FieldError](err); !ok || fe.Field != "working_dir" || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", path, err)
		}
	}
	err := Make(step("/out/made"))
	if entries, _ := os.ReadDir(outside); len(entries) > 0 {
		t.Errorf("made outside (%v)", err)
	}
}

// Only what is made changes hands, also if the first try was killed.
func TestMakeWorkingDirOwnsWhatItMakes(t *testing.T) {
	rootfs, _ := image(t)
	writeFiles(t, rootfs, map[string]string{"var/lib/file": ""})
	step := []spec.Step{spec.MakeWorkingDir{Field: "volume", Rootfs: rootfs, Path: "/var/lib/db/data", UID: 999, GID: 998}}
	// A try that was killed when it had made a directory.
	if err := os.Mkdir(filepath.Join(rootfs, "var/lib/db"), 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Make(step); err != nil {
			t.Fatal(err)
		}
		for path, owner := range map[string]uint32{"var": 0, "var/lib": 0, "var/lib/db": 999, "var/lib/db/data": 999} {
			var stat unix.Stat_t
			if err := unix.Lstat(filepath.Join(rootfs, path), &stat); err != nil || stat.Uid != owner || stat.Mode&0o7777 != 0o755 {
				t.Errorf("%s: owner %d, mode %o, %v", path, stat.Uid, stat.Mode, err)
			}
		}
	}
	// What the image has at the path stays the image's.
	if err := Make([]spec.Step{spec.MakeWorkingDir{Rootfs: rootfs, Path: "/app/data", UID: 999}}); err != nil {
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Lstat(filepath.Join(rootfs, "app/data"), &stat); err != nil || stat.Uid != 0 {
		t.Errorf("/app/data of the image: owner %d, %v", stat.Uid, err)
	}
}

func TestMakeHostDir(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"file": ""})
	made := filepath.Join(dir, "a/b")
	for range 2 {
		if err := Make([]spec.Step{spec.MakeHostDir{Field: "mounts[0].host_path", Path: made}}); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(made); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	err := Make([]spec.Step{
		spec.MakeHostDir{Field: "mounts[1].host_path", Path: filepath.Join(dir, "file/x")},
		spec.MakeHostDir{Path: filepath.Join(dir, "later")},
	})
	if fe, ok := errors.AsType[*refusal.FieldError](err); !ok || fe.Field != "mounts[1].host_path" {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "later")); err == nil {
		t.Error("the steps went on after one failed")
	}
}

func TestCollect(t *testing.T) {
	dir := t.TempDir()
	here, gone := strings.Repeat("a", 64), strings.Repeat("b", 64)
	writeFiles(t, dir, map[string]string{here + "/0/file": "", gone + "/0/file": "", "lost+found/file": ""})
	removed, err := Collect(dir, func(id string) bool { return id == here })
	if err != nil || !slices.Equal(removed, []string{gone}) {
		t.Errorf("removed %v, %v", removed, err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 || left[0].Name() != here || left[1].Name() != "lost+found" {
		t.Errorf("left %v, %v", left, err)
	}
	if removed, err := Collect(filepath.Join(dir, "none"), func(string) bool { return false }); len(removed) > 0 || err != nil {
		t.Errorf("of a directory that is not there: %v, %v", removed, err)
	}
}
