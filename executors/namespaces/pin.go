package namespaces

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Request says which namespaces a pod gets of its own.
type Request struct {
	// Dir gets a file for each namespace: net, ipc, uts.
	Dir               string
	Network, IPC, UTS bool
	// Hostname is set in the UTS namespace; empty leaves the node's.
	Hostname string
	// Sysctls are written in the namespace that each belongs to. They must have
	// passed ValidateSysctls.
	Sysctls map[string]string
}

// kind is a kind of namespace as Pin makes it.
type kind struct {
	file string
	flag int
	// setUp runs on a thread that is in the namespace.
	setUp func(Request) error
}

var (
	kindNet = kind{file: "net", flag: unix.CLONE_NEWNET, setUp: setUpNetwork}
	kindIPC = kind{file: "ipc", flag: unix.CLONE_NEWIPC, setUp: setUpIPC}
	kindUTS = kind{file: "uts", flag: unix.CLONE_NEWUTS, setUp: setUpUTS}
)

func (r Request) kinds() []kind {
	var all []kind
	if r.Network {
		all = append(all, kindNet)
	}
	if r.IPC {
		all = append(all, kindIPC)
	}
	if r.UTS {
		all = append(all, kindUTS)
	}
	return all
}

// Pin makes the namespaces and pins them. It can be repeated after success and
// after a crash at any point: what is pinned is kept and set up again, what is half
// made is finished.
func Pin(ctx context.Context, r Request) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("pin namespaces in %s: %w", r.Dir, err)
	}
	if err := validateHostname(r.Hostname); err != nil {
		return err
	}
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return fmt.Errorf("pin namespaces: %w", err)
	}
	return onThreadOfItsOwn(func() error { return pinOnThread(r) })
}

// onThreadOfItsOwn runs f on a thread that ends with it, so that nothing else ever
// runs in the namespaces that it enters. The process's first thread cannot end,
// and /proc/self speaks of it: it is kept away while another one does the work.
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
	for _, k := range r.kinds() {
		path := filepath.Join(r.Dir, k.file)
		pinned, err := isPinned(path)
		if err != nil {
			return fmt.Errorf("pin the %s namespace: %w", k.file, err)
		}
		if pinned {
			err = enter(path, k.flag)
		} else {
			err = makePinned(path, k)
		}
		if err != nil {
			return fmt.Errorf("pin the %s namespace on %s: %w", k.file, path, err)
		}
		if err := k.setUp(r); err != nil {
			return fmt.Errorf("set up the %s namespace: %w", k.file, err)
		}
	}
	return nil
}

func makePinned(path string, k kind) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|unix.O_NOFOLLOW, 0o400)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := unix.Unshare(k.flag); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	// The thread shares the daemon's mount namespace: the mount is seen by all.
	if err := unix.Mount("/proc/thread-self/ns/"+k.file, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount: %w", err)
	}
	return nil
}

func enter(path string, flag int) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // read-only
	if err := unix.Setns(int(file.Fd()), flag); err != nil {
		return fmt.Errorf("setns: %w", err)
	}
	return nil
}

// isPinned reports whether a namespace is mounted on the file.
func isPinned(path string) (bool, error) {
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

func setUpNetwork(r Request) error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback device: %w", err)
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("bring up the loopback device: %w", err)
	}
	return writeSysctls(r.Sysctls, netNamespace)
}

func setUpIPC(r Request) error { return writeSysctls(r.Sysctls, ipcNamespace) }

func setUpUTS(r Request) error {
	if r.Hostname == "" {
		return nil
	}
	if err := unix.Sethostname([]byte(r.Hostname)); err != nil {
		return fmt.Errorf("set the host name %q: %w", r.Hostname, err)
	}
	return nil
}

// Unpin lets the namespaces of a directory go and removes it. What is gone
// already is no error.
func Unpin(ctx context.Context, dir string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("unpin namespaces in %s: %w", dir, err)
	}
	for _, k := range []kind{kindNet, kindIPC, kindUTS} {
		path := filepath.Join(dir, k.file)
		// A repeated Pin may have mounted twice in a race with a crash.
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
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}
