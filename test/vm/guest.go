package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// suite is the Debian release of the guest: Linux 6.1, systemd 252, cgroup v2, AppArmor, SELinux.
const suite = "bookworm"

// packages are what the guest has beyond Debian's essentials.
var packages = []string{
	"systemd-sysv", "dbus", "udev", "kmod", "procps", "iproute2", "iptables", "nftables", "busybox-static",
	"runc", "crun", "apparmor", "selinux-policy-default", "selinux-utils", "linux-image-cloud-amd64", "initramfs-tools",
}

// recipe is what mmdebstrap runs in the new root file system, as $1, with the policy of
// containers beside it.
//
//go:embed recipe.sh
var recipe string

//go:embed container.cil
var policy string

// Unavailable is the error of a guest whose packages cannot be had: there is no way to a mirror,
// or mmdebstrap cannot install them on this machine.
type Unavailable struct{ Err error }

func (e *Unavailable) Error() string { return "the guest's packages cannot be had: " + e.Err.Error() }

func (e *Unavailable) Unwrap() error { return e.Err }

// Guest is a bootable disk.
type Guest struct{ Disk, Kernel, Initrd string }

// BuildGuest returns the guest, and builds it first if the cache, a directory, has none of
// this recipe. It needs root, mmdebstrap and mke2fs, and a Debian mirror: the one that apt
// uses, or else Debian's own. The error is an *Unavailable if its packages cannot be had.
func BuildGuest(ctx context.Context, cache string) (Guest, error) {
	sum := sha256.Sum256([]byte(recipe + policy + strings.Join(packages, " ") + suite))
	dir := filepath.Join(cache, hex.EncodeToString(sum[:8]))
	g := Guest{filepath.Join(dir, "disk"), filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd.img")}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return g, err
	}
	// Two test runs may want it at once.
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return g, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return g, fmt.Errorf("lock %s: %w", cache, err)
	}
	if _, err := os.Stat(dir); err == nil {
		return g, nil
	}
	work, err := os.MkdirTemp(cache, "building-")
	if err != nil {
		return g, err
	}
	defer os.RemoveAll(work)
	if err := build(ctx, work); err != nil {
		return g, fmt.Errorf("build the guest: %w", err)
	}
	return g, os.Rename(work, dir)
}

func build(ctx context.Context, dir string) error {
	script, installed := filepath.Join(dir, "recipe"), filepath.Join(dir, "installed")
	if err := os.WriteFile(script, []byte(recipe), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "container.cil"), []byte(policy), 0o600); err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	args := []string{
		"--variant=minbase", "--include=" + strings.Join(packages, ","), "--format=directory",
		"--aptopt=Acquire::Languages \"none\"",
		"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
		"--essential-hook=" + script + " early \"$1\"", "--customize-hook=touch " + installed, "--customize-hook=" + script + " late \"$1\"",
		suite, root,
	}
	if err := run(ctx, "mmdebstrap", append(args, mirrors(ctx)...)...); err != nil {
		if _, missing := os.Stat(installed); missing != nil && ctx.Err() == nil {
			return &Unavailable{err}
		}
		return err
	}
	for _, file := range []string{"vmlinuz", "initrd.img"} {
		if err := os.Rename(filepath.Join(root, "boot", file), filepath.Join(dir, file)); err != nil {
			return err
		}
	}
	if err := run(ctx, "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", root, filepath.Join(dir, "disk"), "3G"); err != nil {
		return err
	}
	var errs []error
	for _, file := range []string{root, script, installed, filepath.Join(dir, "container.cil")} {
		errs = append(errs, os.RemoveAll(file))
	}
	return errors.Join(errs...)
}

// mirrors are the lines of sources.list for the suite, from the sites that apt uses here.
// None means Debian's own mirror.
func mirrors(ctx context.Context) []string {
	var lines []string
	for _, release := range []string{suite, suite + "-security"} {
		out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(SITE)", "Codename: "+release).Output()
		site, _, _ := strings.Cut(string(out), "\n")
		if err == nil && site != "" {
			lines = append(lines, "deb "+site+" "+release+" main")
		}
	}
	return lines
}

func run(ctx context.Context, program string, args ...string) error {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		out = out[max(0, len(out)-4096):]
		return fmt.Errorf("%s: %w\n%s", program, err, bytes.TrimSpace(out))
	}
	return nil
}
