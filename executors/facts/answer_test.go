package facts

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/spec/confine"
)

// image returns a root file system that has one file.
func image(t *testing.T, name, data string) string {
	t.Helper()
	rootfs := filepath.Join(t.TempDir(), "rootfs")
	write(t, filepath.Join(rootfs, name), data)
	return rootfs
}

func write(t *testing.T, path, data string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestAccountFiles(t *testing.T) {
	rootfs := image(t, "usr/passwd", "app:x:1:1::/:\n")
	if err := errors.Join(os.Mkdir(filepath.Join(rootfs, "etc"), 0o755), os.Symlink("/usr/passwd", filepath.Join(rootfs, "etc/passwd"))); err != nil {
		t.Fatal(err)
	}
	found := Answer(spec.Questions{Rootfs: rootfs})
	if string(found.Passwd.Data) != "app:x:1:1::/:\n" || found.Passwd.Err != nil {
		t.Errorf("passwd by a link in the image: %+v", found.Passwd)
	}
	if found.Group.Data != nil || found.Group.Err != nil {
		t.Errorf("no group file: %+v", found.Group)
	}
}

// Images whose program adds its own line leave the file open to its group.
func TestAccountFilesOpenToOthers(t *testing.T) {
	rootfs := image(t, "etc/passwd", "root:x:0:0::/:\n")
	path := filepath.Join(rootfs, "etc/passwd")
	for mode, open := range map[os.FileMode]bool{0o644: false, 0o664: true, 0o646: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if got := Answer(spec.Questions{Rootfs: rootfs}).Passwd; got.Open != open || got.Err != nil {
			t.Errorf("%v: %+v", mode, got)
		}
	}
	if err := errors.Join(os.Chmod(path, 0o644), os.Chown(path, 5, 0)); err != nil {
		t.Fatal(err)
	}
	if got := Answer(spec.Questions{Rootfs: rootfs}).Passwd; !got.Open {
		t.Errorf("another's file: %+v", got)
	}
}

// Nodes that take their groups from a directory have files of some megabytes.
func TestLargeAccountFile(t *testing.T) {
	rootfs := image(t, "etc/group", strings.Repeat("g:x:1:member\n", 100_000))
	if got := Answer(spec.Questions{Rootfs: rootfs}).Group; got.Err != nil || len(got.Data) != 1_300_000 {
		t.Errorf("%d bytes, %v", len(got.Data), got.Err)
	}
}

// CVE-2025-4437, CVE-2026-47262: account files without an end.
func TestAccountFilesAreBounded(t *testing.T) {
	for name, answer := range map[string]func(spec.Answers) spec.File{
		"etc/passwd": func(found spec.Answers) spec.File { return found.Passwd },
		"etc/group":  func(found spec.Answers) spec.File { return found.Group },
	} {
		rootfs := image(t, name, strings.Repeat("x", maxAccountFile))
		if got := answer(Answer(spec.Questions{Rootfs: rootfs})); got.Err != nil || len(got.Data) != maxAccountFile {
			t.Errorf("%s of the highest size: %d bytes, %v", name, len(got.Data), got.Err)
		}
		write(t, filepath.Join(rootfs, name), strings.Repeat("x", maxAccountFile+1))
		if got := answer(Answer(spec.Questions{Rootfs: rootfs})); got.Err == nil || !strings.Contains(got.Err.Error(), "larger than 16777216 bytes") {
			t.Errorf("%s: %v", name, got.Err)
		}
	}
}

func TestAccountFilesThatAreNoFiles(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"fifo":         func(path string) error { return unix.Mkfifo(path, 0o644) },
		"device":       func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))) },
		"directory":    func(path string) error { return os.Mkdir(path, 0o755) },
		"endless link": func(path string) error { return os.Symlink("passwd", path) },
	} {
		t.Run(name, func(t *testing.T) {
			rootfs := image(t, "etc/motd", "")
			if err := make(filepath.Join(rootfs, "etc/passwd")); err != nil {
				t.Fatal(err)
			}
			if got := Answer(spec.Questions{Rootfs: rootfs}).Passwd; got.Err == nil {
				t.Errorf("read %q", got.Data)
			}
		})
	}
}

// CVE-2024-9676: a link in the image leads to a place in the image, never on the node.
func TestImageStaysInsideCVE2024_9676(t *testing.T) {
	rootfs := image(t, "etc/motd", "")
	outside := filepath.Join(filepath.Dir(rootfs), "outside")
	write(t, filepath.Join(outside, "passwd"), "app:x:0:0::/:\n")
	for _, link := range []string{filepath.Join(outside, "passwd"), "../../outside/passwd"} {
		path := filepath.Join(rootfs, "etc/passwd")
		_ = os.Remove(path)
		if err := os.Symlink(link, path); err != nil {
			t.Fatal(err)
		}
		if got := Answer(spec.Questions{Rootfs: rootfs}).Passwd; got.Data != nil {
			t.Errorf("link to %s: read %q", link, got.Data)
		}
	}
}

func TestWorkingDirIsResolved(t *testing.T) {
	rootfs := image(t, "etc/motd", "")
	for name, dest := range map[string]string{"link": "proc/self/fd/7", "up": "../../../..", "abs": "/etc"} {
		if err := os.Symlink(dest, filepath.Join(rootfs, name)); err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]string{
		"/none/x": "/none/x", "/link": "/proc/self/fd/7", "/up/x": "/x", "/abs/y": "/etc/y", "/up": "/",
	} {
		if got := Answer(spec.Questions{Rootfs: rootfs, WorkingDir: dir}).WorkingDir; got.Path != want || got.Err != nil {
			t.Errorf("%s leads to %+v, want %s", dir, got, want)
		}
	}
}

// CVE-2024-5154: of an /etc that leads out, nothing is known and nothing is made.
func TestMtabCVE2024_5154(t *testing.T) {
	outside := t.TempDir()
	for name, c := range map[string]struct {
		make func(rootfs string) error
		want bool
	}{
		"none":          {func(string) error { return nil }, true},
		"no /etc":       {func(r string) error { return os.RemoveAll(r + "/etc") }, true},
		"a link":        {func(r string) error { return os.Symlink("/proc/mounts", r+"/etc/mtab") }, false},
		"a file":        {func(r string) error { return os.WriteFile(r+"/etc/mtab", nil, 0o644) }, false},
		"/etc a file":   {func(r string) error { return errors.Join(os.RemoveAll(r+"/etc"), os.WriteFile(r+"/etc", nil, 0o644)) }, false},
		"/etc outside":  {func(r string) error { return errors.Join(os.RemoveAll(r+"/etc"), os.Symlink(outside, r+"/etc")) }, false},
		"/etc a circle": {func(r string) error { return errors.Join(os.RemoveAll(r+"/etc"), os.Symlink("etc", r+"/etc")) }, false},
		"/etc inside": {func(r string) error {
			return errors.Join(os.Rename(r+"/etc", r+"/real"), os.Symlink("/real", r+"/etc"))
		}, true},
	} {
		rootfs := image(t, "etc/motd", "")
		if err := c.make(rootfs); err != nil {
			t.Fatal(err)
		}
		if got := Answer(spec.Questions{Rootfs: rootfs}).NoMtab; got != c.want {
			t.Errorf("%s: an mtab can be made: %v", name, got)
		}
	}
}

// With another directory as the node's root, links lead no further than it.
func TestHostPathsBelowARoot(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write(t, root+"/real/file", "")
	for name, dest := range map[string]string{"abs": "/real", "up": "../../../../real", "loop": "loop"} {
		if err := os.Symlink(dest, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]spec.HostPath{
		"/real": {Path: root + "/real"}, "/abs/file": {Path: root + "/real/file"}, "/up/file": {Path: root + "/real/file"},
		"/": {Path: root}, "/none/x": {Path: root + "/none/x", Missing: true}, "/abs/none": {Path: root + "/real/none", Missing: true},
		"/loop": {Err: errAny}, "/real/file/x": {Err: errAny},
	} {
		got := Answer(spec.Questions{HostRoot: root, HostPaths: []spec.HostPathQuestion{{Path: path}}}).HostPaths[path]
		if got.Path != want.Path || got.Missing != want.Missing || (got.Err != nil) != (want.Err != nil) {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
}

func TestDefaultMounts(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/real", "")
	if err := errors.Join(os.Symlink("real", dir+"/link"), os.Symlink("nowhere", dir+"/dangling")); err != nil {
		t.Fatal(err)
	}
	// They are the daemon's, and not below the root for pods.
	found := Answer(spec.Questions{HostRoot: "/nowhere", DefaultMounts: []string{dir + "/link", dir + "/none", dir + "/dangling"}}).DefaultMounts
	if got := found[dir+"/link"]; got != (spec.HostPath{Path: dir + "/real"}) {
		t.Errorf("a link: %+v", got)
	}
	if got := found[dir+"/none"]; !got.Missing || got.Err != nil {
		t.Errorf("a missing one: %+v", got)
	}
	if got := found[dir+"/dangling"]; !errors.Is(got.Err, spec.ErrDangling) {
		t.Errorf("a link that leads to nothing: %+v", got)
	}
}

func TestHostPaths(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/real/file", "")
	for name, dest := range map[string]string{"link": "real", "dangling": "nowhere", "loop": "loop"} {
		if err := os.Symlink(dest, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	paths := map[string]spec.HostPath{
		dir + "/real":        {Path: dir + "/real"},
		dir + "/link/file":   {Path: dir + "/real/file"},
		dir + "/link/no/way": {Path: dir + "/real/no/way", Missing: true},
		"/":                  {Path: "/"},
		dir + "/dangling":    {Err: errAny},
		dir + "/dangling/x":  {Err: errAny},
		dir + "/loop":        {Err: errAny},
		dir + "/real/file/x": {Err: errAny},
	}
	var q spec.Questions
	for path := range paths {
		q.HostPaths = append(q.HostPaths, spec.HostPathQuestion{Path: path})
	}
	found := Answer(q).HostPaths
	for path, want := range paths {
		got := found[path]
		if got.Path != want.Path || got.Missing != want.Missing || (got.Err != nil) != (want.Err != nil) {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
}

var errAny = errors.New("any error")

func TestMountOf(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root: it mounts")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	first, second := dir+"/first", dir+"/second"
	t.Cleanup(func() {
		for _, m := range []string{second, first} {
			if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	})
	for _, err := range []error{
		os.Mkdir(first, 0o755), os.Mkdir(second, 0o755),
		unix.Mount("tmpfs", first, "tmpfs", 0, ""), unix.Mount("", first, "", unix.MS_SHARED, ""),
		unix.Mount(first, second, "", unix.MS_BIND, ""), unix.Mount("", second, "", unix.MS_SLAVE, ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	found := Answer(spec.Questions{HostPaths: []spec.HostPathQuestion{
		{Path: first + "/none", Mount: true}, {Path: second, Mount: true}, {Path: first},
	}}).HostPaths
	if got, want := found[first+"/none"].Mount, (spec.Mount{Mountpoint: first, Shared: true}); got != want {
		t.Errorf("shared: %+v, want %+v", got, want)
	}
	if got, want := found[second].Mount, (spec.Mount{Mountpoint: second, Slave: true}); got != want {
		t.Errorf("slave: %+v, want %+v", got, want)
	}
	if got := found[first].Mount; got != (spec.Mount{}) {
		t.Errorf("not asked for: %+v", got)
	}
}

func TestDevices(t *testing.T) {
	dir := t.TempDir()
	null := filepath.Join(dir, "a/null")
	write(t, dir+"/a/file", "")
	for _, err := range []error{
		os.Symlink(null, dir+"/link"), os.Mkdir(dir+"/empty", 0o755),
		unix.Mknod(null, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))),
		unix.Mkfifo(dir+"/a/fifo", 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// Not used, and so of a kind that nobody has.
	if err := unix.Mknod(dir+"/block", unix.S_IFBLK|0o640, int(unix.Mkdev(240, 5))); err != nil {
		t.Fatal(err)
	}
	if got := Answer(spec.Questions{Devices: []string{dir + "/block"}}).Devices[dir+"/block"]; got.Err != nil || len(got.Nodes) != 1 ||
		got.Nodes[0].Type != "b" || got.Nodes[0].Major != 240 || got.Nodes[0].Minor != 5 || got.Nodes[0].FileMode.Perm() != 0o640 {
		t.Errorf("a block device: %+v", got)
	}
	if err := os.Remove(dir + "/block"); err != nil {
		t.Fatal(err)
	}
	q := spec.Questions{Devices: []string{dir, dir + "/link", dir + "/none", dir + "/a/file", dir + "/empty", dir + "/a/fifo"}, AllDevices: true}
	found := Answer(q)
	for path, want := range map[string]string{dir: "a/null", dir + "/link": ""} {
		got := found.Devices[path]
		if got.Err != nil || len(got.Nodes) != 1 {
			t.Fatalf("%s: %+v", path, got)
		}
		if d := got.Nodes[0]; d.Path != want || d.Type != "c" || d.Major != 1 || d.Minor != 3 || d.FileMode.Perm() != 0o600 {
			t.Errorf("%s: %+v", path, d)
		}
	}
	for _, path := range q.Devices[2:] {
		if found.Devices[path].Err == nil {
			t.Errorf("%s is taken for a device", path)
		}
	}
	has := func(path string) bool {
		return slices.ContainsFunc(found.AllDevices.Nodes, func(d spec.Device) bool { return d.Path == path })
	}
	if found.AllDevices.Err != nil || !has("null") || has("console") || has("pts/0") || has("pts/ptmx") {
		t.Errorf("all devices: %+v", found.AllDevices)
	}
}

func TestSeccompProfiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/large", strings.Repeat(" ", maxSeccompProfile+1))
	write(t, dir+"/profile", "{}")
	read := func(path string) confine.Profile {
		return Answer(spec.Questions{Questions: confine.Questions{SeccompProfile: path}}).Seccomp
	}
	if got := read(dir + "/profile"); string(got.Data) != "{}" || got.Err != nil {
		t.Errorf("%+v", got)
	}
	for _, path := range []string{dir + "/none", dir + "/large", "/dev/zero", dir} {
		if got := read(path); got.Err == nil {
			t.Errorf("%s: read %d bytes", path, len(got.Data))
		}
	}
}
