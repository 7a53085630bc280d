package kubelet

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/test/e2e"
)

// insideEnv has the programs' directory in the process that is in the namespaces.
const insideEnv = "STELE_KUBELET_PROGRAMS"

// kubeletsOwn is a directory that a kubelet uses whatever its flags say.
const kubeletsOwn = "/var/lib/kubelet"

// programs are those under test, set before the first test.
var programs struct {
	*e2e.Programs
	kubelet, kubeadm, apiserver, etcd, health string
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run builds the programs, for which it needs the network, and runs the tests in a process
// with namespaces of its own.
func run(m *testing.M) int {
	if dir := os.Getenv(insideEnv); dir != "" {
		if err := enter(dir); err != nil {
			fmt.Fprintln(os.Stderr, "enter the namespaces:", err)
			return 1
		}
		return m.Run()
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests need root")
		return 1
	}
	code, err := outside()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func outside() (int, error) {
	dir, err := os.MkdirTemp("", "stele-kubelet-programs-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		return 0, err
	}
	unlock, err := alone()
	if err != nil {
		return 0, err
	}
	defer unlock()
	if err := os.Mkdir(kubeletsOwn, 0o755); err == nil {
		defer os.Remove(kubeletsOwn)
	} else if !errors.Is(err, fs.ErrExist) {
		return 0, err
	}
	restore, err := keepSysctls()
	if err != nil {
		return 0, err
	}
	inside := exec.Command("/proc/self/exe", os.Args[1:]...)
	inside.Env = append(os.Environ(), insideEnv+"="+dir)
	inside.Stdin, inside.Stdout, inside.Stderr = os.Stdin, os.Stdout, os.Stderr
	inside.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	err = errors.Join(inside.Run(), restore())
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// alone waits until no other of these tests runs on the machine: each would take another's kernel
// settings for the node's, and its cover off the kubelet's directory.
func alone() (unlock func() error, err error) {
	lock, err := os.OpenFile("/run/lock/stele-test-kubelet", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", lock.Name(), err), lock.Close())
	}
	return lock.Close, nil
}

// build builds Stele as the e2e tests have it, with the race detector unless it is measured, and finds what the
// Makefile has built. STELE_KUBELET names another kubelet there.
func build(dir string) error {
	const product = "github.com/stele-runtime/stele/"
	race, cgo := []string{"-race"}, "1"
	if slices.ContainsFunc(os.Args, func(arg string) bool { return strings.HasPrefix(arg, "-test.bench=") }) {
		race, cgo = nil, "0"
	}
	for _, b := range []struct {
		in   string
		cgo  string
		args []string
	}{
		{"../..", cgo, append(race, "-tags", "containers_image_openpgp,exclude_graphdriver_btrfs", "-o", filepath.Join(dir, "stele"), product+"cmd/stele")},
		{"../..", "0", []string{"-o", filepath.Join(dir, "stele-monitor"), product + "cmd/stele-monitor"}},
		{"../..", "0", []string{"-o", filepath.Join(dir, "tester"), product + "test/e2e/tester"}},
		{"../..", "0", []string{"-o", filepath.Join(dir, "nriplugin"), product + "test/e2e/nriplugin"}},
		{".", "0", []string{"-o", filepath.Join(dir, "health"), "./health"}},
	} {
		cmd := exec.Command("go", append([]string{"build"}, b.args...)...)
		cmd.Dir, cmd.Env = b.in, append(os.Environ(), "CGO_ENABLED="+b.cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", strings.Join(b.args, " "), err, out)
		}
	}
	for _, name := range []string{"kubelet", "kubeadm", "kube-apiserver", "etcd"} {
		built, err := filepath.Abs(filepath.Join("../../.cache/kubelet", cmp.Or(os.Getenv("STELE_"+strings.ToUpper(name)), name)))
		if err == nil {
			_, err = os.Stat(built)
		}
		if err == nil {
			err = os.Symlink(built, filepath.Join(dir, name))
		}
		if err != nil {
			return fmt.Errorf("`make test-kubelet` builds %s: %w", name, err)
		}
	}
	return nil
}

// kernelSettings are what a kubelet sets on a node.
var kernelSettings = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// hugePagesFile has the number of huge pages, of 2 MiB on most machines.
const hugePagesFile = "/proc/sys/vm/nr_hugepages"

// reserveHugePages sees to it that there is one for a check, if the kernel has any.
func reserveHugePages(kept map[string][]byte) error {
	count, err := os.ReadFile(hugePagesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || strings.TrimSpace(string(count)) != "0" {
		return err
	}
	kept["vm/nr_hugepages"] = count
	return os.WriteFile(hugePagesFile, []byte("2"), 0)
}

// keepSysctls reads the kernel's settings, reserves huge pages, and returns what sets all of it
// again.
func keepSysctls() (restore func() error, err error) {
	kept := map[string][]byte{}
	for _, name := range kernelSettings {
		if kept[name], err = os.ReadFile(filepath.Join("/proc/sys", name)); err != nil {
			return nil, err
		}
	}
	if err := reserveHugePages(kept); err != nil {
		return nil, err
	}
	return func() error {
		var errs []error
		for name, value := range kept {
			errs = append(errs, os.WriteFile(filepath.Join("/proc/sys", name), value, 0))
		}
		return errors.Join(errs...)
	}, nil
}
