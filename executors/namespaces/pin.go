package namespaces

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Request says which namespaces a pod gets of its own.
type Request struct {
	// Dir gets a file for each namespace, named after its kind. It belongs to one
	// pod alone.
	Dir               string
	Network, IPC, UTS bool
	// Users are the mappings of the pod's user namespace; nil leaves it the node's. It owns
	// the other namespaces, which the pod must all have.
	Users *Users
	// Pause is a program that waits, with its arguments. It is born in the namespaces if there
	// are Users, and killed once they are pinned.
	Pause []string
	// Hostname is set in the UTS namespace; empty leaves the node's.
	Hostname string
	// Sysctls are written in the namespace that each belongs to, but for those of single
	// interfaces (WriteInterfaceSysctls).
	Sysctls map[string]string
}

// Users are the mappings of a user namespace.
type Users struct{ UIDs, GIDs []specs.LinuxIDMapping }

// Kind is a kind of namespace, and the name of the file that it is pinned on.
type Kind string

const (
	Network Kind = "net"
	IPC     Kind = "ipc"
	UTS     Kind = "uts"
	User    Kind = "user"
)

// kinds are all that can be pinned. The user namespace is pinned last: it is there only if
// those that it owns are.
func kinds() []Kind { return []Kind{Network, IPC, UTS, User} }

// wants reports whether the pod gets a namespace of that kind.
func (r Request) wants(k Kind) bool {
	switch k {
	case Network:
		return r.Network
	case IPC:
		return r.IPC
	case UTS:
		return r.UTS
	case User:
		return r.Users != nil
	}
	return false
}

// Pin makes the namespaces and pins them. It is idempotent, also after a crash at
// any point: what is pinned is kept and set up again, what is half made is
// finished. A request that cannot succeed (*fault.Fault of kind Invalid) is refused
// before anything is done; what any other failure leaves, Unpin removes.
//
// Calls for the same directory must come one after the other.
func Pin(ctx context.Context, r Request) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("pin namespaces in %s: %w", r.Dir, err)
	}
	if err := validateHostname(r.Hostname); err != nil {
		return err
	}
	if err := ValidateSysctls(r.Sysctls, !r.Network, !r.IPC); err != nil {
		return err
	}
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return fmt.Errorf("pin namespaces: %w", err)
	}
	return onThreadOfItsOwn(func() error {
		if r.Users != nil {
			if err := pinOwned(r); err != nil {
				return fmt.Errorf("pin a user namespace and what it owns in %s: %w", r.Dir, err)
			}
		}
		return pinOnThread(r)
	})
}

// onThreadOfItsOwn runs f on a thread that ends with it, so that nothing else ever
// runs in the namespaces that it enters. The process's first thread cannot end, and
// /proc/self shows it: it is kept busy while another thread does the work.
func onThreadOfItsOwn(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- onThreadOfItsOwn(f)
			return
		}
		done <- f() // and the thread ends, for it is not unlocked
	}()
	return <-done
}

func pinOnThread(r Request) error {
	for _, k := range kinds() {
		if !r.wants(k) || k == User {
			continue
		}
		path := filepath.Join(r.Dir, string(k))
		pinned, err := Exists(r.Dir, k)
		if err != nil {
			return fmt.Errorf("pin the %s namespace: %w", k, err)
		}
		if pinned {
			err = enter(path, k)
		} else {
			err = makePinned(path, k)
		}
		if err != nil {
			return fmt.Errorf("pin the %s namespace on %s: %w", k, path, err)
		}
		if err := setUp(k, r); err != nil {
			return fmt.Errorf("set up the %s namespace: %w", k, err)
		}
	}
	return nil
}

// cloneFlag is what unshare and setns call the kind.
func (k Kind) cloneFlag() int {
	switch k {
	case Network:
		return unix.CLONE_NEWNET
	case IPC:
		return unix.CLONE_NEWIPC
	case UTS:
		return unix.CLONE_NEWUTS
	case User:
		return unix.CLONE_NEWUSER
	}
	panic(fmt.Sprintf("no such kind of namespace: %q", string(k)))
}

// makePinned moves the thread to a new namespace and mounts that on the file.
func makePinned(path string, k Kind) error {
	if err := makeFile(path); err != nil {
		return err
	}
	if err := unix.Unshare(k.cloneFlag()); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	// The thread shares the daemon's mount namespace: the mount is seen by all.
	if err := unix.Mount("/proc/thread-self/ns/"+string(k), path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount: %w", err)
	}
	return nil
}

func makeFile(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|unix.O_NOFOLLOW, 0o400)
	if err != nil {
		return err
	}
	return file.Close()
}

func enter(path string, k Kind) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // read-only
	if err := unix.Setns(int(file.Fd()), k.cloneFlag()); err != nil {
		return fmt.Errorf("setns: %w", err)
	}
	return nil
}

// Exists reports whether a namespace of that kind is pinned in the directory.
func Exists(dir string, k Kind) (bool, error) {
	path := filepath.Join(dir, string(k))
	var st unix.Statfs_t
	err := unix.Statfs(path, &st)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("statfs %s: %w", path, err)
	}
	return st.Type == unix.NSFS_MAGIC, nil
}

// setUp prepares the namespace that the thread is in.
func setUp(k Kind, r Request) error {
	switch k {
	case Network:
		if err := raiseLoopback(); err != nil {
			return err
		}
	case UTS:
		if r.Hostname == "" {
			return nil
		}
		if err := unix.Sethostname([]byte(r.Hostname)); err != nil {
			return fmt.Errorf("set the host name %q: %w", r.Hostname, err)
		}
	case IPC:
		if err := r.Users.ownQueues(); err != nil {
			return err
		}
	}
	write := func() error { return writeSysctls(earlySysctls(r.Sysctls), k) }
	if k == IPC {
		return r.Users.asRoot(write)
	}
	return write()
}

func raiseLoopback() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback device: %w", err)
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("bring up the loopback device: %w", err)
	}
	return nil
}

// Unpin releases the namespaces of a directory and removes it. One that is gone is
// success. A namespace lives on while a process is in it.
func Unpin(ctx context.Context, dir string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("unpin namespaces in %s: %w", dir, err)
	}
	for _, k := range kinds() {
		if err := unpin(filepath.Join(dir, string(k))); err != nil {
			return err
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}

func unpin(path string) error {
	// Something else than Pin can have stacked mounts.
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // not a mount, or not there
		}
		if err != nil {
			return fmt.Errorf("unpin %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}
