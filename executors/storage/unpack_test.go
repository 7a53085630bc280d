package storage

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.podman.io/storage/pkg/archive"
	"go.podman.io/storage/pkg/chrootarchive"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/test/images"
)

// childrenUse says how many pages the programs had to get that this process started and
// that ended. Each adds some.
func childrenUse(t *testing.T) int64 {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &usage); err != nil {
		t.Fatal(err)
	}
	return usage.Minflt
}

// If this fails after an update of the library, overlayUntar isn't the library's variable
// any more.
func TestSmallLayersStartNoProgram(t *testing.T) {
	server := images.Registry(t)
	s := open(t, dirs(t))
	before := childrenUse(t)
	pull(t, s, server, server.Push(t, "small:v1", small(t, "content", v1.Config{})), "small")
	if now := childrenUse(t); now != before {
		t.Errorf("a small layer was unpacked by another program: %d page faults", now-before)
	}
	pull(t, s, server, server.Push(t, "large:v1", small(t, strings.Repeat("content ", smallLayer), v1.Config{})), "large")
	if now := childrenUse(t); now == before {
		t.Error("a large layer was unpacked by the daemon")
	}
}

// hostile is a layer that tries something.
type hostile struct {
	name    string
	entries []tar.Header
	fails   bool
}

// outside is where hostile layers try to write, instead of a real path outside of their
// directory.
const outside = "OUTSIDE"

var hostileLayers = []hostile{
	{"plain", []tar.Header{dirEntry("dir", 0o755), fileEntry("dir/file", 0o644), fileEntry("implied/parents/file", 0o600)}, false},
	{"parents of the root", []tar.Header{fileEntry("../file", 0o644)}, false},
	{"parents on the way", []tar.Header{dirEntry("dir", 0o755), fileEntry("dir/../../file", 0o644)}, false},
	{"absolute name", []tar.Header{fileEntry(outside+"/file", 0o644)}, false},
	{"through an absolute symlink", []tar.Header{linkEntry(tar.TypeSymlink, "link", outside), fileEntry("link/file", 0o644)}, false},
	{"through a relative symlink", []tar.Header{linkEntry(tar.TypeSymlink, "link", "../../../../../../../.."+outside), fileEntry("link/file", 0o644)}, false},
	{"through two symlinks", []tar.Header{
		linkEntry(tar.TypeSymlink, "a", "b/.."), linkEntry(tar.TypeSymlink, "b", outside), fileEntry("a/file", 0o644),
	}, false},
	{"over a symlink", []tar.Header{linkEntry(tar.TypeSymlink, "link", outside+"/canary"), fileEntry("link", 0o644)}, false},
	{"a directory over a symlink", []tar.Header{linkEntry(tar.TypeSymlink, "link", outside), dirEntry("link", 0o777)}, false},
	{"hard link to the outside", []tar.Header{linkEntry(tar.TypeLink, "link", outside+"/canary"), fileEntry("link", 0o644)}, true},
	{"hard link to a parent", []tar.Header{linkEntry(tar.TypeLink, "link", "../../canary")}, true},
	{"hard link through a symlink", []tar.Header{linkEntry(tar.TypeSymlink, "dir", outside), linkEntry(tar.TypeLink, "link", "dir/canary")}, true},
	{"root is a file", []tar.Header{fileEntry(".", 0o644)}, true},
	{"root is a symlink", []tar.Header{linkEntry(tar.TypeSymlink, "./", outside)}, true},
	{"root has a mode", []tar.Header{dirEntry("./", 0o700)}, false},
	{"modes", []tar.Header{fileEntry("setuid", 0o4755), dirEntry("sticky", 0o1777), fileEntry("nobody", 0), {Name: "owned", Typeflag: tar.TypeReg, Mode: 0o2755, Uid: 12345, Gid: 54321}}, false},
	{"more modes than there are", []tar.Header{fileEntry("file", 0o7777777)}, false},
	{"devices", []tar.Header{
		{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, {Name: "disk", Typeflag: tar.TypeBlock, Mode: 0o600, Devmajor: 254, Devminor: 0},
		{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o600},
	}, false},
	{"whiteouts", []tar.Header{dirEntry("dir", 0o755), fileEntry(".wh.gone", 0o644), fileEntry("dir/.wh..wh..opq", 0o644)}, false},
	{"whiteout through a symlink", []tar.Header{linkEntry(tar.TypeSymlink, "link", outside), fileEntry("link/.wh.canary", 0o644)}, false},
	{"whiteout of the parent", []tar.Header{fileEntry(".wh..", 0o644)}, true},
	{"attributes", []tar.Header{{Name: "file", Typeflag: tar.TypeReg, Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b", "SCHILY.xattr.trusted.c": "d"}}}, false},
	{"overlay's own attributes", []tar.Header{{Name: "dir", Typeflag: tar.TypeDir, Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/etc"}}}, false},
	{"times", []tar.Header{{Name: "file", Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(-1, 0)}, {Name: "new", Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(1<<34, 0)}}, false},
	{"unknown kind", []tar.Header{{Name: "file", Typeflag: 'Z', Mode: 0o644}}, true},
	{"a file as a directory", []tar.Header{fileEntry("file", 0o644), fileEntry("file/file", 0o644)}, true},
	{"long name", []tar.Header{fileEntry(strings.Repeat("n", 300), 0o644)}, true},
}

func fileEntry(name string, mode int64) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode}
}

func dirEntry(name string, mode int64) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode}
}

func linkEntry(kind byte, name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: kind, Linkname: target, Mode: 0o777}
}

// archive is the layer, for which the directory is outside.
func (h hostile) archive(t *testing.T, directory string) []byte {
	t.Helper()
	var into bytes.Buffer
	w := tar.NewWriter(&into)
	for _, header := range h.entries {
		header.Name = strings.ReplaceAll(header.Name, outside, directory)
		header.Linkname = strings.ReplaceAll(header.Linkname, outside, directory)
		if header.ModTime.IsZero() {
			header.ModTime = time.Unix(1e9, 0)
		}
		header.Format = tar.FormatPAX
		if header.Mode > 0o7777 {
			header.Format = tar.FormatGNU // the other has no room for such a number
		}
		content := ""
		if header.Typeflag == tar.TypeReg && !strings.Contains(header.Name, ".wh.") {
			content = "hostile"
		}
		header.Size = int64(len(content))
		if err := w.WriteHeader(&header); err != nil {
			t.Fatalf("%s: %v", header.Name, err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return into.Bytes()
}

// Hostile layers write nowhere but into their directory, and what is in it is what the
// library would make.
func TestHostileLayersAreUnpackedAsTheLibraryDoes(t *testing.T) {
	open(t, dirs(t)) // replaces the library's
	for _, layer := range hostileLayers {
		t.Run(layer.name, func(t *testing.T) {
			here, errHere := layer.unpack(t, smallOnes(func(io.Reader, string, *archive.TarOptions) error {
				return errors.New("it is not small")
			}))
			there, errThere := layer.unpack(t, chrootarchive.UntarUncompressed)
			if (errHere != nil) != layer.fails || (errThere != nil) != layer.fails {
				t.Errorf("the layer is to fail: %v\nhere: %v\nin the library: %v", layer.fails, errHere, errThere)
			}
			if !slices.Equal(here, there) {
				t.Errorf("unpacked here:\n%s\nby the library:\n%s", strings.Join(here, "\n"), strings.Join(there, "\n"))
			}
		})
	}
}

// unpack returns what an unpacker made of the layer, and fails the test for what it made
// elsewhere.
func (h hostile) unpack(t *testing.T, unpack unpacker) ([]string, error) {
	t.Helper()
	elsewhere, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// What the other unpacker gets has another name.
	name := strings.Trim(elsewhere, "/")
	if err := os.WriteFile(filepath.Join(elsewhere, "canary"), []byte("alive"), 0o640); err != nil {
		t.Fatal(err)
	}
	into := filepath.Join(elsewhere, "store", "layer")
	if err := os.MkdirAll(into, 0o755); err != nil {
		t.Fatal(err)
	}
	untouched := filesIn(t, elsewhere, into)
	err = unpack(bytes.NewReader(h.archive(t, elsewhere)), into, &archive.TarOptions{WhiteoutFormat: archive.OverlayWhiteoutFormat})
	if now := filesIn(t, elsewhere, into); !slices.Equal(now, untouched) {
		t.Errorf("outside of the layer is now:\n%s\nbefore:\n%s", strings.Join(now, "\n"), strings.Join(untouched, "\n"))
	}
	made := filesIn(t, into, "")
	for i := range made {
		made[i] = strings.ReplaceAll(made[i], name, outside)
	}
	return made, err
}

// filesIn describes the files in a directory, but for a part.
func filesIn(t *testing.T, root, without string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == without {
			return fs.SkipDir
		}
		files = append(files, describeFile(t, root, path))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func describeFile(t *testing.T, root, path string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	name, _ := filepath.Rel(root, path)
	text := fmt.Sprintf("%s mode %o owner %d:%d links %d device %x", name, st.Mode, st.Uid, st.Gid, st.Nlink, st.Rdev)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf(" time %d content %q", st.Mtim.Sec, content)
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			t.Fatal(err)
		}
		text += " to " + target
	}
	names := make([]byte, 4096)
	n, err := unix.Llistxattr(path, names)
	if err != nil {
		t.Fatal(err)
	}
	for _, attribute := range slices.Sorted(strings.SplitSeq(string(names[:n]), "\x00")) {
		value := make([]byte, 256)
		if n, err := unix.Lgetxattr(path, attribute, value); err == nil {
			text += fmt.Sprintf(" %s=%q", attribute, value[:n])
		}
	}
	return text
}

func TestLargeLayersAreTheLibrarys(t *testing.T) {
	for _, size := range []int{smallLayer, smallLayer + 1} {
		var got []byte
		unpack := smallOnes(func(tar io.Reader, _ string, _ *archive.TarOptions) (err error) {
			got, err = io.ReadAll(tar)
			return err
		})
		// Zeros are an archive without entries.
		if err := unpack(bytes.NewReader(make([]byte, size)), t.TempDir(), &archive.TarOptions{}); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		if want := size > smallLayer; want != (len(got) == size) {
			t.Errorf("the library got %d of %d bytes", len(got), size)
		}
	}
}

// The process keeps its root and its working directory, whichever thread is used: also the
// first, whose root is the process's in /proc.
func TestOnlyAThreadHasTheRoot(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "here"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	places := func() string {
		root, errRoot := os.Readlink("/proc/self/root")
		cwd, errCwd := os.Readlink("/proc/self/cwd")
		return fmt.Sprint(root, " ", cwd, " ", errors.Join(errRoot, errCwd))
	}
	before := places()
	ctx, stop := context.WithCancel(context.Background())
	var looking sync.WaitGroup
	looking.Go(func() {
		for ctx.Err() == nil {
			if now := places(); now != before {
				t.Errorf("root and working directory are %s, were %s", now, before)
				return
			}
		}
	})
	mask := unix.Umask(0o022)
	unix.Umask(mask)
	var running sync.WaitGroup
	for range 16 {
		running.Go(func() {
			for range 20 {
				err := inRoot(dir, func() error {
					// It is the thread's, too, and the next one's is as it was.
					if now := unix.Umask(0o777); now != mask {
						t.Errorf("the umask is %#o, was %#o", now, mask)
					}
					_, err := os.Stat("/here")
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	stop()
	looking.Wait()
	if mask := unix.Umask(0o022); mask == 0o777 {
		t.Error("the process has the thread's umask")
	} else {
		unix.Umask(mask)
	}
}

// A thread that waits for more to unpack must not keep a file system from being unmounted.
func TestARootIsLeftAtOnce(t *testing.T) {
	dir := t.TempDir()
	for range 20 {
		if err := unix.Mount("stele-test", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		for name, do := range map[string]func() error{
			"succeeded": func() error { return os.WriteFile("/file", nil, 0o600) },
			"failed":    func() error { return errors.New("failure") },
		} {
			if err := inRoot(dir, do); (err == nil) != (name == "succeeded") {
				t.Errorf("what %s: %v", name, err)
			}
		}
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	}
}

// Go may run a goroutine on the process's first thread, which can neither have another root nor end.
func TestTheFirstThreadGetsNoRoot(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "here"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	release := make(chan struct{})
	defer close(release)
	for range 100 {
		isFirst := make(chan bool)
		go func() {
			runtime.LockOSThread() // nobody else gets it until all are released
			defer runtime.UnlockOSThread()
			first := unix.Gettid() == unix.Getpid()
			if first {
				result := make(chan error, 1)
				serveRooted(rooted{root: root, result: result, do: func() error {
					if unix.Gettid() == unix.Getpid() {
						t.Error("the first thread has another root")
					}
					_, err := os.Stat("/here")
					return err
				}}, make(chan struct{}))
				if err := <-result; err != nil {
					t.Error(err)
				}
			}
			isFirst <- first
			<-release
		}()
		if <-isFirst {
			return
		}
	}
	t.Log("no goroutine came to the first thread")
}

func TestFailureInARoot(t *testing.T) {
	want := errors.New("failure")
	if err := inRoot(t.TempDir(), func() error { return want }); !errors.Is(err, want) {
		t.Errorf("the error is %v", err)
	}
	if err := inRoot(t.TempDir(), func() error { panic("hostile") }); err == nil || !strings.Contains(err.Error(), "hostile") {
		t.Errorf("the error is %v", err)
	}
	if err := inRoot(filepath.Join(t.TempDir(), "gone"), func() error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
}
