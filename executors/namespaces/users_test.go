package namespaces

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
)

// usersRequest asks for a user namespace, too.
func usersRequest(t *testing.T) Request {
	r := request(t)
	ranges := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 200000, Size: 65536}}
	r.Users, r.Pause = &Users{UIDs: ranges, GIDs: ranges}, []string{"sleep", "infinity"}
	return r
}

// ownerOf returns the inode of the user namespace that owns a pinned one.
func ownerOf(t *testing.T, dir string, k Kind) uint64 {
	t.Helper()
	file, err := os.Open(filepath.Join(dir, string(k)))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	owner, err := unix.IoctlRetInt(int(file.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(owner)
	var st unix.Stat_t
	if err := unix.Fstat(owner, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestPinOwnedByAUserNamespace(t *testing.T) {
	r := usersRequest(t)
	mustPin(t, r)
	user := inode(t, r.Dir, User)
	for _, k := range plain() {
		if owner := ownerOf(t, r.Dir, k); owner != user {
			t.Errorf("the %s namespace belongs to %d, not to the pod's user namespace %d", k, owner, user)
		}
	}
	// Set up as other pods' are.
	inside(t, r.Dir, func() error {
		if name, err := threadHostname(); err != nil || name != r.Hostname {
			return fmt.Errorf("host name %q: %w", name, errors.Join(errWrong, err))
		}
		return nil
	})
	again := map[Kind]uint64{}
	for _, k := range kinds() {
		again[k] = inode(t, r.Dir, k)
	}
	mustPin(t, r)
	for k, before := range again {
		if inode(t, r.Dir, k) != before {
			t.Errorf("the %s namespace is another one after a repeated request", k)
		}
	}
	if err := Unpin(t.Context(), r.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(r.Dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}

// What whoever mounts the queues, in whatever mount namespace, finds: the runtime does so for each
// container, with SELinux to label them.
func TestQueuesOfAUserNamespace(t *testing.T) {
	r := usersRequest(t)
	mustPin(t, r)
	inside(t, r.Dir, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		dir := t.TempDir()
		if err := unix.Mount("mqueue", dir, "mqueue", 0, ""); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return err
		}
		if st.Uid != 200000 || st.Gid != 200000 {
			return fmt.Errorf("the queues belong to %d:%d: %w", st.Uid, st.Gid, errWrong)
		}
		return nil
	})
}

// A kill between two mounts leaves namespaces of different owners, if the next try kept them.
func TestPinOwnedAfterAKill(t *testing.T) {
	r := usersRequest(t)
	mustPin(t, r)
	for _, k := range []Kind{UTS, User} {
		if err := unpin(filepath.Join(r.Dir, string(k))); err != nil {
			t.Fatal(err)
		}
	}
	mustPin(t, r)
	for _, k := range plain() {
		if owner := ownerOf(t, r.Dir, k); owner != inode(t, r.Dir, User) {
			t.Errorf("the %s namespace belongs to another user namespace", k)
		}
	}
}

func TestPinOwnedRefuses(t *testing.T) {
	r := usersRequest(t)
	r.IPC, r.Sysctls = false, nil
	if err := Pin(t.Context(), r); fault.KindOf(err) != fault.Invalid {
		t.Errorf("with the node's IPC namespace: %v", err)
	}
	r = usersRequest(t)
	r.Users.UIDs[0].Size = 0
	if err := Pin(t.Context(), r); err == nil {
		t.Error("an empty mapping was made")
	}
	for _, k := range kinds() {
		if pinned, err := Exists(r.Dir, k); pinned || err != nil {
			t.Errorf("%s is pinned after a failure: %v", k, err)
		}
	}
}

func TestMapsIDs(t *testing.T) {
	r := usersRequest(t)
	mustPin(t, r)
	user := filepath.Join(r.Dir, string(User))
	if err := MapsIDs(user, t.TempDir()); err != nil {
		t.Errorf("a directory of the node's disk: %v", err)
	}
	if err := MapsIDs(user, "/sys/kernel"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("sysfs: %v", err)
	}
	if err := MapsIDs(user, filepath.Join(t.TempDir(), "none")); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a path that is not there: %v", err)
	}
}
