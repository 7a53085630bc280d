package cdi

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
)

func TestAsked(t *testing.T) {
	got, err := Asked([]string{"vendor.example/x=1", "vendor.example/x=1"}, map[string]string{
		"cdi.k8s.io/b": "vendor.example/x=2,vendor.example/x=1", "cdi.k8s.io/a": "v/c=d", "cdi.k8s.io.evil/x": "vendor.example/x=4", "other": "nonsense",
	})
	want := []Named{
		{"CDI_devices[0].name", "vendor.example/x=1"}, {"annotations[cdi.k8s.io/a]", "v/c=d"}, {"annotations[cdi.k8s.io/b]", "vendor.example/x=2"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{
		"", "x", "=", "/", "/=", "1/c=d", "v/1=d", "vendor/class", "vendor/class=", "vendor/class=d,", "vendor/cl/ass=d", "-v/class=d", "-/c=d",
		"vendor/class=d\x00", "vendor/class=../d", " vendor/class=d",
	} {
		if _, err := Asked([]string{bad}, nil); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "CDI_devices[0].name") {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := Asked(nil, map[string]string{"cdi.k8s.io/x": bad}); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "annotations[cdi.k8s.io/x]") {
			t.Errorf("annotation %q: %v", bad, err)
		}
	}
}

func write(t *testing.T, dir, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "x.json"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Names of one letter are names; a library before 1.1.1 panicked at them.
func TestNamesOfOneLetter(t *testing.T) {
	for name, found := range map[string]bool{"v/c=d": true, "v/c=e": false, "vendor/class=d": false} {
		dir := t.TempDir()
		write(t, dir, `{"cdiVersion": "0.6.0", "kind": "v/c", "devices": [{"name": "d", "containerEdits": {"env": ["A=b"]}}]}`)
		to := &specs.Spec{Process: &specs.Process{}}
		err := Dirs{dir}.Inject(to, []Named{{"CDI_devices[0].name", name}})
		if found != (err == nil && slices.Equal(to.Process.Env, []string{"A=b"})) {
			t.Errorf("%s: %v, %v", name, to.Process.Env, err)
		}
		if !found && (fault.KindOf(err) != fault.Precondition || !strings.Contains(err.Error(), dir)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// In a user namespace a device on another path is a mount; elsewhere it is made.
func TestDevicesInAUserNamespace(t *testing.T) {
	dir := t.TempDir()
	device := filepath.Join(dir, "device")
	if err := unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 7))); err != nil {
		t.Fatal(err)
	}
	write(t, dir, `{"cdiVersion": "0.6.0", "kind": "vendor.example/x",
		"containerEdits": {"deviceNodes": [{"path": "/dev/null"}, {"path": "/dev/engine", "hostPath": "/dev/zero"}]},
		"devices": [{"name": "1", "containerEdits": {"deviceNodes": [{"path": "/dev/engine", "hostPath": "`+device+`"}]}}]}`)
	devices := []Named{{"CDI_devices[0].name", "vendor.example/x=1"}}
	for users, want := range map[bool][]string{false: {"/dev/null", "/dev/engine"}, true: {"/dev/null"}} {
		to := &specs.Spec{Linux: &specs.Linux{}}
		if users {
			to.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.UserNamespace, Path: "/run/user"}}
		}
		if err := (Dirs{dir}).Inject(to, devices); err != nil {
			t.Fatal(err)
		}
		var made []string
		for _, d := range to.Linux.Devices {
			made = append(made, d.Path)
		}
		if !slices.Equal(made, want) {
			t.Errorf("with users %v: made are %v", users, made)
		}
		if users != (len(to.Mounts) == 1 && to.Mounts[0].Source == device && to.Mounts[0].Destination == "/dev/engine") {
			t.Errorf("with users %v: mounted are %v", users, to.Mounts)
		}
		if len(to.Linux.Resources.Devices) != 3 {
			t.Errorf("with users %v: allowed are %v", users, to.Linux.Resources.Devices)
		}
	}
	to := &specs.Spec{}
	err := Dirs{dir}.Inject(to, append(devices, Named{"CDI_devices[1].name", "vendor.example/x=2"}))
	if fault.KindOf(err) != fault.Precondition || to.Linux != nil {
		t.Errorf("all or none: %v, %+v", err, to)
	}
}
