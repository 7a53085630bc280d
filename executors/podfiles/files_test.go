package podfiles

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// podDir returns the directory of a pod, whose files go with the test.
func podDir(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root: it mounts")
	}
	dir := filepath.Join(t.TempDir(), "pod1")
	t.Cleanup(func() {
		if err := Unmount(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestWrite(t *testing.T) {
	config := &cri.PodSandboxConfig{Hostname: "web-0", DnsConfig: &cri.DNSConfig{
		Servers: []string{"10.0.0.10", "fd00::a"}, Searches: []string{"shop.svc", "svc"}, Options: []string{"ndots:5"},
	}}
	dir := podDir(t)
	files := In(dir)
	// A try that was killed left this.
	for _, err := range []error{Write(dir, config, Owner{}), os.WriteFile(files.Hostname+".new", []byte("half a li"), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := Write(dir, config, Owner{}); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{
			files.ResolvConf: "search shop.svc svc\nnameserver 10.0.0.10\nnameserver fd00::a\noptions ndots:5\n",
			files.Hostname:   "web-0\n",
			files.Hosts:      "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",

			files.ContainerEnv: "",
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
	if entries, _ := os.ReadDir(filepath.Dir(files.Hosts)); len(entries) != 4 {
		t.Errorf("%d files, want 4", len(entries))
	}
}

func TestFilesOfTheNode(t *testing.T) {
	config := &cri.PodSandboxConfig{Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
		NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
	}}}
	dir := podDir(t)
	files := In(dir)
	if err := Write(dir, config, Owner{}); err != nil {
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

// A pod that an earlier version made has its files elsewhere.
func TestFilesOfAnOlderPod(t *testing.T) {
	dir := podDir(t)
	if got := Find(dir); got.Hosts != filepath.Join(dir, "hosts") || got.ContainerEnv != "" || got.Shm != In(dir).Shm {
		t.Errorf("%+v", got)
	}
	if err := Write(dir, &cri.PodSandboxConfig{Hostname: "web-0"}, Owner{}); err != nil {
		t.Fatal(err)
	}
	if got := Find(dir); got != In(dir) {
		t.Errorf("%+v", got)
	}
}

// What containers write to the files stays bounded, and is no program and no device.
func TestFilesAreBounded(t *testing.T) {
	dir := podDir(t)
	for range 2 {
		if err := Write(dir, &cri.PodSandboxConfig{Hostname: "web-0"}, Owner{}); err != nil {
			t.Fatal(err)
		}
	}
	checkTmpfs(t, filepath.Dir(In(dir).Hostname), "size=5120k")
	file, err := os.OpenFile(In(dir).Hostname, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n, err := file.Write(make([]byte, 2*maxEtc))
	if !errors.Is(err, unix.ENOSPC) || n > maxEtc {
		t.Errorf("a container writes %d bytes, %v", n, err)
	}
}

func TestShm(t *testing.T) {
	dir := podDir(t)
	shm := In(dir).Shm
	for range 2 {
		if err := MountShm(shm, 1<<20, Owner{}); err != nil {
			t.Fatal(err)
		}
	}
	checkTmpfs(t, shm, "size=1024k")
	if info, err := os.Stat(shm); err != nil || info.Mode().Perm() != 0o777 || info.Mode()&os.ModeSticky == 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// CVE-2024-25621: only root gets there.
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the pod's directory: mode %v, %v", info.Mode(), err)
	}
	open, err := os.Create(filepath.Join(shm, "in use"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for range 2 {
		if err := Unmount(dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(shm); err == nil {
		t.Error("the directory is still there")
	}
}

// checkTmpfs wants one mount of that size.
func checkTmpfs(t *testing.T, dir, size string) {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil || len(mounts) != 1 {
		t.Fatalf("%s is mounted %d times, %v", dir, len(mounts), err)
	}
	for _, want := range []string{"nosuid", "nodev", "noexec"} {
		if !strings.Contains(mounts[0].Options, want) {
			t.Errorf("options %q lack %s", mounts[0].Options, want)
		}
	}
	if !strings.Contains(mounts[0].VFSOptions, size) {
		t.Errorf("options %q lack %s", mounts[0].VFSOptions, size)
	}
}

func TestLabelOfThePodsFiles(t *testing.T) {
	for label, want := range map[string]string{
		"": "mode=0700", "u:o:t:s0:c1,c2": `mode=0700,context="u:o:t:s0:c1,c2"`,
	} {
		if got := (Owner{Label: label}).labelled("mode=0700"); got != want {
			t.Errorf("%q: the mount's options are %s, want %s", label, got, want)
		}
	}
}
