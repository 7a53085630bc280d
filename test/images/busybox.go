package images

import (
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"sort"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// busyboxPath is where Debian's and Ubuntu's package busybox-static puts it.
const busyboxPath = "/bin/busybox"

// The users of the Busybox image, for tests of users and groups.
const (
	passwd = `root:x:0:0:root:/root:/bin/sh
app:x:1000:1000:app:/home/app:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
`
	group = `root:x:0:
app:x:1000:
extra:x:2000:app
more:x:2001:app,root
nogroup:x:65534:
`
)

// Busybox makes an image from the machine's static busybox: all its applets in
// /bin, the users root, app (1000, also in the groups extra and more) and nobody,
// and a shell to run unless config says otherwise.
func Busybox(t testing.TB, config v1.Config) v1.Image {
	t.Helper()
	if len(config.Entrypoint) == 0 && len(config.Cmd) == 0 {
		config.Cmd = []string{"/bin/sh"}
	}
	if len(config.Env) == 0 {
		config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	}
	return Build(t, Spec{Config: config, Layers: [][]File{BusyboxFiles(t)}})
}

// BusyboxFiles are the files of the Busybox image, for images that add to them.
func BusyboxFiles(t testing.TB) []File {
	t.Helper()
	program, err := os.ReadFile(busyboxPath)
	if err != nil {
		t.Fatalf("the package busybox-static is needed: %v", err)
	}
	requireStatic(t)
	output, err := exec.Command(busyboxPath, "--list").Output()
	if err != nil {
		t.Fatalf("list busybox's applets: %v", err)
	}
	applets := strings.Fields(string(output))
	sort.Strings(applets)

	files := []File{
		{Path: "bin", Mode: fs.ModeDir | 0o755},
		{Path: "bin/busybox", Mode: 0o755, Content: program},
		{Path: "dev", Mode: fs.ModeDir | 0o755},
		{Path: "etc", Mode: fs.ModeDir | 0o755},
		{Path: "etc/passwd", Mode: 0o644, Content: []byte(passwd)},
		{Path: "etc/group", Mode: 0o644, Content: []byte(group)},
		{Path: "home", Mode: fs.ModeDir | 0o755},
		{Path: "home/app", Mode: fs.ModeDir | 0o755, UID: 1000, GID: 1000},
		{Path: "proc", Mode: fs.ModeDir | 0o555},
		{Path: "root", Mode: fs.ModeDir | 0o700},
		{Path: "sys", Mode: fs.ModeDir | 0o555},
		{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{Path: "usr", Mode: fs.ModeDir | 0o755},
		{Path: "usr/bin", Mode: fs.ModeDir | 0o755},
		{Path: "var", Mode: fs.ModeDir | 0o755},
		{Path: "var/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
	}
	for _, applet := range applets {
		if applet != "busybox" {
			files = append(files, File{Path: "bin/" + applet, Mode: fs.ModeSymlink | 0o777, Target: "busybox"})
		}
	}
	return files
}

func requireStatic(t testing.TB) {
	t.Helper()
	program, err := elf.Open(busyboxPath)
	if err != nil {
		t.Fatalf("read %s: %v", busyboxPath, err)
	}
	defer program.Close()
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			t.Fatalf("%s is not static: the package busybox-static is needed", busyboxPath)
		}
	}
}
