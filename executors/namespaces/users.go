package namespaces

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
)

// pinOwned makes a user namespace and, in it, all that the request wants, and pins them. A
// process with threads can neither make nor join a user namespace: a child is born in them, and
// ends once they are pinned. Namespaces that an interrupted try left are made anew, because
// nobody is in them yet.
func pinOwned(r Request) error {
	for _, k := range kinds() {
		if !r.wants(k) {
			return fault.New(fault.Invalid, "pin namespaces", string(k), "a pod with a user namespace of its own needs this one, too")
		}
	}
	if len(r.Pause) == 0 {
		return fault.New(fault.Internal, "pin namespaces", r.Dir, "there is no program to be born in them")
	}
	if pinned, err := Exists(r.Dir, User); pinned || err != nil {
		return err
	}
	child, err := bornIn(r)
	if err != nil {
		return err
	}
	defer func() {
		_ = child.Process.Kill() // it can have ended
		_ = child.Wait()
	}()
	for _, k := range kinds() {
		path := filepath.Join(r.Dir, string(k))
		if err := unpin(path); err != nil {
			return err
		}
		if err := makeFile(path); err != nil {
			return err
		}
		if err := unix.Mount(fmt.Sprintf("/proc/%d/ns/%s", child.Process.Pid, k), path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind mount the %s namespace: %w", k, err)
		}
	}
	return nil
}

// bornIn starts a process that waits in new namespaces. It ends with this thread at the latest.
func bornIn(r Request) (*exec.Cmd, error) {
	flags := 0
	for _, k := range kinds() {
		flags |= k.cloneFlag()
	}
	child := exec.Command(r.Pause[0], r.Pause[1:]...)
	child.Env, child.Dir = []string{}, "/"
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 uintptr(flags),
		UidMappings:                mappings(r.Users.UIDs),
		GidMappings:                mappings(r.Users.GIDs),
		GidMappingsEnableSetgroups: true,
		Pdeathsig:                  unix.SIGKILL,
	}
	if err := child.Start(); err != nil {
		if errors.Is(err, unix.ENOSPC) {
			err = fmt.Errorf("%w: the node has as many as the sysctl user.max_user_namespaces, or one of its kind, allows", err)
		}
		return nil, fmt.Errorf("start a process in new namespaces: %w", err)
	}
	return child, nil
}

func mappings(ranges []specs.LinuxIDMapping) []syscall.SysProcIDMap {
	var out []syscall.SysProcIDMap
	for _, r := range ranges {
		out = append(out, syscall.SysProcIDMap{ContainerID: int(r.ContainerID), HostID: int(r.HostID), Size: int(r.Size)})
	}
	return out
}

// ownQueues gives the directory of the IPC namespace's message queues, which Linux makes for whoever
// made the namespace, to the root of the user namespace. It is the directory of every mount of
// it. The runtime labels it as that root, with SELinux.
func (u *Users) ownQueues() error {
	if u == nil {
		return nil
	}
	fs, err := unix.Fsopen("mqueue", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open the message queues: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("open the message queues: %w", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("mount the message queues: %w", err)
	}
	defer func() { _ = unix.Close(mount) }()
	if err := unix.Fchownat(mount, "", hostID(u.UIDs), hostID(u.GIDs), unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("give the message queues to the root of the user namespace: %w", err)
	}
	return nil
}

// hostID is the id of the user namespace's root on the node; -1, which changes nothing, if it has none.
func hostID(ranges []specs.LinuxIDMapping) int {
	for _, r := range ranges {
		if r.ContainerID == 0 {
			return int(r.HostID)
		}
	}
	return -1
}

// asRoot runs f with this thread's effective user as the root of the user namespace: sysctls of
// an IPC namespace are written by who they belong to, whatever capabilities another one has.
// Only the thread's own is changed; it still has its capabilities when f is done.
func (u *Users) asRoot(f func() error) (err error) {
	if u == nil {
		return f()
	}
	if err := setThreadUser(hostID(u.UIDs)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, setThreadUser(0)) }()
	return f()
}

// setThreadUser sets the effective user of the thread alone; the library sets that of all.
func setThreadUser(uid int) error {
	const same = ^uintptr(0)
	if _, _, err := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); err != 0 {
		return fmt.Errorf("become user %d: %w", uid, err)
	}
	return nil
}
