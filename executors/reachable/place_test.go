package reachable

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stele-runtime/stele/actors/fault"
)

// as runs a program as a user of the node.
func as(uid uint32, program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd.Run()
}

// state is a state directory through which one may pass.
func state(t *testing.T) string {
	dir, err := os.MkdirTemp("/var/tmp", "stele-reachable-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestShow(t *testing.T) {
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	place := Place{Dir: filepath.Join(state(t), "mapped"), Name: "c"}
	t.Cleanup(func() {
		if err := place.Remove(); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		if err := place.Show(source, 200000, 200000); err != nil {
			t.Fatal(err)
		}
	}
	if err := as(200000, "stat", filepath.Join(place.Root(), "file")); err != nil {
		t.Errorf("its owner does not reach it: %v", err)
	}
	if err := as(65534, "stat", filepath.Join(place.Root(), "file")); err == nil {
		t.Error("another user reaches it")
	}
	if err := as(200000, "ls", place.Dir); err == nil {
		t.Error("its owner sees the other places")
	}
	for range 2 {
		if err := place.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(filepath.Join(place.Dir, "c")); !os.IsNotExist(err) {
		t.Errorf("the place is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(source, "file")); err != nil {
		t.Errorf("what was shown is damaged: %v", err)
	}
}

func TestCheck(t *testing.T) {
	open := state(t)
	if err := Check(open); err != nil {
		t.Errorf("an open one: %v", err)
	}
	closed := filepath.Join(open, "closed")
	if err := os.MkdirAll(filepath.Join(closed, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Check(filepath.Join(closed, "state")); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("a closed one: %v", err)
	}
}
