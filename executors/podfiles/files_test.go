package podfiles

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestWrite(t *testing.T) {
	config := &cri.PodSandboxConfig{Hostname: "web-0", DnsConfig: &cri.DNSConfig{
		Servers: []string{"10.0.0.10", "fd00::a"}, Searches: []string{"shop.svc", "svc"}, Options: []string{"ndots:5"},
	}}
	dir := filepath.Join(t.TempDir(), "pod1")
	files := In(dir)
	// A try that was killed left this.
	for _, err := range []error{os.Mkdir(dir, 0o711), os.WriteFile(files.Hostname+".new", []byte("half a li"), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := Write(dir, config); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{
			files.ResolvConf: "search shop.svc svc\nnameserver 10.0.0.10\nnameserver fd00::a\noptions ndots:5\n",
			files.Hostname:   "web-0\n",
			files.Hosts:      "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
		} {
			got, err := os.ReadFile(path)
			if err != nil || string(got) != want {
				t.Errorf("%s: %q, %v; want %q", path, got, err, want)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
				t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
			}
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 3 {
		t.Errorf("%d files, want 3", len(entries))
	}
}

func TestFilesOfTheNode(t *testing.T) {
	config := &cri.PodSandboxConfig{Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
		NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
	}}}
	dir := t.TempDir()
	files := In(dir)
	if err := Write(dir, config); err != nil {
		t.Fatal(err)
	}
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(files.Hostname); string(got) != name+"\n" {
		t.Errorf("host name %q, want the node's %q", got, name)
	}
	for ours, theirs := range map[string]string{files.ResolvConf: "/etc/resolv.conf", files.Hosts: "/etc/hosts"} {
		want, _ := os.ReadFile(theirs)
		if got, _ := os.ReadFile(ours); string(got) != string(want) {
			t.Errorf("%s differs from the node's", theirs)
		}
	}
}

func TestShm(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root: it mounts")
	}
	dir := filepath.Join(t.TempDir(), "shm")
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	for range 2 {
		if err := MountShm(dir, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil || len(mounts) != 1 {
		t.Fatalf("mounted %d times, %v", len(mounts), err)
	}
	for _, want := range []string{"nosuid", "nodev", "noexec"} {
		if !strings.Contains(mounts[0].Options, want) {
			t.Errorf("options %q lack %s", mounts[0].Options, want)
		}
	}
	if !strings.Contains(mounts[0].VFSOptions, "size=1024k") || !strings.Contains(mounts[0].VFSOptions, "mode=1777") && !strings.Contains(mounts[0].VFSOptions, "rw") {
		t.Errorf("options %q", mounts[0].VFSOptions)
	}
	open, err := os.Create(filepath.Join(dir, "in use"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for range 2 {
		if err := UnmountShm(dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(dir); err == nil {
		t.Error("the directory is still there")
	}
}
