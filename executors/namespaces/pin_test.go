package namespaces

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
)

// inside runs f on a thread that is in the pinned namespaces.
func inside(t *testing.T, dir string, f func() error) {
	t.Helper()
	err := onThreadOfItsOwn(func() error {
		for _, k := range plain() {
			if err := enter(filepath.Join(dir, string(k)), k); err != nil {
				return err
			}
		}
		return f()
	})
	if err != nil {
		t.Error(err)
	}
}

func read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

func readlink(path string) string {
	s, err := os.Readlink(path)
	if err != nil {
		return err.Error()
	}
	return s
}

func threadHostname() (string, error) {
	var name unix.Utsname
	err := unix.Uname(&name)
	return unix.ByteSliceToString(name.Nodename[:]), err
}

func request(t *testing.T) Request {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("pinning namespaces takes root")
	}
	r := Request{
		Dir: filepath.Join(t.TempDir(), "ns"), Network: true, IPC: true, UTS: true, Hostname: "pod-name",
		Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "kernel/shmmni": "77", "fs.mqueue.msg_max": "11"},
	}
	t.Cleanup(func() {
		// The test's own context has ended by now.
		if err := Unpin(context.Background(), r.Dir); err != nil {
			t.Error(err)
		}
		if mounts := read("/proc/self/mountinfo"); strings.Contains(mounts, r.Dir) {
			t.Errorf("mounts are left in %s", r.Dir)
		}
	})
	return r
}

func mustPin(t *testing.T, r Request) {
	t.Helper()
	if err := Pin(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// inode tells namespaces apart.
func inode(t *testing.T, dir string, k Kind) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, string(k)), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestPinMakesNamespacesOfTheirOwn(t *testing.T) {
	ofTheNode := map[string]string{}
	for _, path := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmni", "/proc/sys/fs/mqueue/msg_max", "/proc/sys/kernel/hostname"} {
		ofTheNode[path] = read(path)
	}
	r := request(t)
	mustPin(t, r)
	inside(t, r.Dir, func() error {
		for path, want := range map[string]string{
			"/proc/sys/net/ipv4/ip_forward": "1", "/proc/sys/kernel/shmmni": "77", "/proc/sys/fs/mqueue/msg_max": "11",
		} {
			if got := read(path); got != want {
				return fmt.Errorf("%s is %q, want %q", path, got, want)
			}
		}
		if name, err := threadHostname(); err != nil || name != "pod-name" {
			return fmt.Errorf("host name %q: %w", name, errors.Join(errWrong, err))
		}
		links, err := netlink.LinkList()
		if err != nil || len(links) == 0 {
			return fmt.Errorf("devices %v: %w", links, errors.Join(errWrong, err))
		}
		for _, l := range links {
			if up := l.Attrs().RawFlags&unix.IFF_UP != 0; l.Attrs().Name == "lo" && !up {
				return fmt.Errorf("the loopback device is down")
			}
		}
		return nil
	})
	for path, want := range ofTheNode {
		if got := read(path); got != want {
			t.Errorf("the node's %s went from %s to %s", path, want, got)
		}
	}
}

func TestPinIsIdempotent(t *testing.T) {
	r := request(t)
	mustPin(t, r)
	before := map[Kind]uint64{}
	for _, k := range plain() {
		before[k] = inode(t, r.Dir, k)
	}
	mustPin(t, r)
	for _, k := range plain() {
		if got := inode(t, r.Dir, k); got != before[k] {
			t.Errorf("the %s namespace was replaced", k)
		}
	}
	for range 2 { // what is gone is gone
		if err := Unpin(t.Context(), r.Dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(r.Dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestPinMakesOnlyWhatIsWanted(t *testing.T) {
	r := request(t)
	r.Network, r.UTS, r.Sysctls = false, false, map[string]string{"kernel.shmmni": "78"}
	mustPin(t, r)
	for k, want := range map[Kind]bool{Network: false, IPC: true, UTS: false} {
		if got, err := Exists(r.Dir, k); got != want || err != nil {
			t.Errorf("Exists(%s) = %v, %v", k, got, err)
		}
	}
}

// A crash leaves files without mounts, or namespaces that were not set up.
func TestPinFinishesWhatIsHalfMade(t *testing.T) {
	r := request(t)
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.Dir, "net"), nil, 0o400); err != nil {
		t.Fatal(err)
	}
	if ok, err := Exists(r.Dir, Network); ok || err != nil {
		t.Fatalf("a file without a mount counts as pinned: %v, %v", ok, err)
	}
	bare := filepath.Join(r.Dir, "uts")
	if err := onThreadOfItsOwn(func() error { return makePinned(bare, UTS) }); err != nil {
		t.Fatal(err)
	}
	kept := inode(t, r.Dir, UTS)
	mustPin(t, r)
	for _, k := range plain() {
		if ok, err := Exists(r.Dir, k); !ok || err != nil {
			t.Errorf("%s is not pinned: %v", k, err)
		}
	}
	if inode(t, r.Dir, UTS) != kept {
		t.Error("the UTS namespace was not kept")
	}
	inside(t, r.Dir, func() error {
		if name, err := threadHostname(); err != nil || name != "pod-name" {
			return fmt.Errorf("host name %q: %w", name, errors.Join(errWrong, err))
		}
		return nil
	})
}

func TestUnpinOfHalfMade(t *testing.T) {
	r := request(t)
	mustPin(t, r)
	// Mounted twice, and without a mount at all.
	path := filepath.Join(r.Dir, "net")
	if err := unix.Mount("/proc/self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(filepath.Join(r.Dir, "ipc"), 0); err != nil {
		t.Fatal(err)
	}
	if err := Unpin(t.Context(), r.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(r.Dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}

// A refused request has not even made its directory.
func TestPinRefusesBeforeItActs(t *testing.T) {
	for name, change := range map[string]func(*Request){
		"a sysctl of the node": func(r *Request) { r.Sysctls = map[string]string{"kernel.core_pattern": "x"} },
		"shared network":       func(r *Request) { r.Network = false },
		"shared IPC":           func(r *Request) { r.IPC = false },
		"a long host name":     func(r *Request) { r.Hostname = strings.Repeat("a", 65) },
	} {
		r := request(t)
		change(&r)
		if err := Pin(t.Context(), r); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(r.Dir); !os.IsNotExist(err) {
			t.Errorf("%s: the directory was made", name)
		}
	}
}

func TestPinSaysWhichSysctlTheKernelRefuses(t *testing.T) {
	for key, value := range map[string]string{
		"net.ipv4.ip_forward": "many", "net.no.such": "1", "net.ipv4": "1", "net.ipv4.conf.default.no_such": "1",
	} {
		r := request(t)
		r.Sysctls = map[string]string{key: value}
		err := Pin(t.Context(), r)
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), value) {
			t.Errorf("%s=%s: %v", key, value, err)
		}
	}
}

// Daemons that know nothing of each other pin pods at the same time; afterwards no
// thread is left in their namespaces.
func TestPinsAtOnce(t *testing.T) {
	requests := make([]Request, 32)
	for i := range requests {
		requests[i] = request(t)
		requests[i].Hostname = fmt.Sprintf("pod-%d", i)
	}
	var all sync.WaitGroup
	for _, r := range requests {
		all.Go(func() {
			if err := Pin(t.Context(), r); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	seen := map[uint64]bool{}
	for i, r := range requests {
		seen[inode(t, r.Dir, Network)] = true
		inside(t, r.Dir, func() error {
			if name, err := threadHostname(); err != nil || name != fmt.Sprintf("pod-%d", i) {
				return fmt.Errorf("pod %d has the host name %q: %w", i, name, errors.Join(errWrong, err))
			}
			return nil
		})
	}
	if len(seen) != len(requests) {
		t.Errorf("%d pods have %d network namespaces", len(requests), len(seen))
	}
	noThreadAway(t)
}

// noThreadAway waits until all threads are in the process's namespaces: those that
// entered others take a moment to end.
func noThreadAway(t *testing.T) {
	t.Helper()
	var away string
	for range 200 {
		away = ""
		threads, err := filepath.Glob("/proc/self/task/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, thread := range threads {
			for _, k := range plain() {
				name := "/ns/" + string(k)
				// A thread that has just ended has no namespaces.
				if ns, err := os.Readlink(thread + name); err == nil && ns != readlink("/proc/self"+name) {
					away = thread + name + " is " + ns
				}
			}
		}
		if away == "" {
			return
		}
		runtime.Gosched()
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("a thread was left behind: %s", away)
}

// The pins of one directory have nothing to do with those of another.
func TestUnpinLeavesOthers(t *testing.T) {
	one, other := request(t), request(t)
	mustPin(t, one)
	mustPin(t, other)
	if err := Unpin(t.Context(), one.Dir); err != nil {
		t.Fatal(err)
	}
	for _, k := range plain() {
		if ok, err := Exists(other.Dir, k); !ok || err != nil {
			t.Errorf("%s of the other pod: %v, %v", k, ok, err)
		}
	}
}

func TestPinDoesNotFollowLinks(t *testing.T) {
	r := request(t)
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(r.Dir, "net")); err != nil {
		t.Fatal(err)
	}
	if err := Pin(t.Context(), r); err == nil {
		t.Error("a namespace was mounted through a link")
	}
	if info, err := os.Lstat(victim); err != nil || info.Mode().Type()&fs.ModeSymlink != 0 {
		t.Errorf("the victim: %v", err)
	}
	if strings.Contains(read("/proc/self/mountinfo"), victim) {
		t.Error("a namespace is mounted on the link's target")
	}
}

// errWrong says that something is not as expected.
var errWrong = errors.New("that is wrong")

// A sysctl of one interface is written once there is that interface; those that
// interfaces inherit are there before.
func TestSysctlsOfInterfaces(t *testing.T) {
	r := request(t)
	r.Sysctls = map[string]string{
		"net.ipv4.conf.eth0.rp_filter": "2", "net/ipv4/neigh/eth0/gc_stale_time": "77", "net.ipv6.conf.eth0/1.forwarding": "1",
		"net.ipv4.conf.default.rp_filter": "1", "net.ipv4.conf.lo.rp_filter": "2",
	}
	mustPin(t, r)
	write := func() error { return WriteInterfaceSysctls(t.Context(), r.Dir, r.Sysctls) }
	if err := write(); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("without the interface: %v, want an error that names the sysctl", err)
	}
	inside(t, r.Dir, func() error {
		for _, name := range []string{"eth0", "eth0.1"} { // bridges: not every kernel has dummies
			if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
				return err
			}
		}
		return nil
	})
	for range 2 {
		if err := write(); err != nil {
			t.Fatal(err)
		}
		mustPin(t, r) // again, after a crash: it finds the interface
	}
	inside(t, r.Dir, func() error {
		for path, want := range map[string]string{
			"net/ipv4/conf/eth0/rp_filter": "2", "net/ipv4/neigh/eth0/gc_stale_time": "77", "net/ipv6/conf/eth0.1/forwarding": "1",
			"net/ipv4/conf/default/rp_filter": "1", "net/ipv4/conf/eth0.1/rp_filter": "1", "net/ipv4/conf/lo/rp_filter": "2",
		} {
			if got := read(filepath.Join(procSys, path)); got != want {
				t.Errorf("%s is %s, want %s", path, got, want)
			}
		}
		return nil
	})
}

// Sysctls depend on each other: a map of them has no order.
func TestSysctlsThatDependOnOthers(t *testing.T) {
	for name, sysctls := range map[string]map[string]string{
		"ports for all users": {"net.ipv4.ip_local_port_range": "512 65000", "net.ipv4.ip_unprivileged_port_start": "512"},
		"ports for root":      {"net.ipv4.ip_local_port_range": "50000 65000", "net.ipv4.ip_unprivileged_port_start": "50000"},
		// Whatever the node has, and a new namespace with it.
		"one interface does not forward": {"net.ipv4.ip_forward": "1", "net.ipv4.conf.default.forwarding": "0", "net.ipv4.conf.lo.forwarding": "0"},
		"one interface forwards":         {"net.ipv4.ip_forward": "0", "net.ipv4.conf.default.forwarding": "1", "net.ipv4.conf.lo.forwarding": "1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t)
			r.Sysctls = sysctls
			mustPin(t, r)
			inside(t, r.Dir, func() error {
				for key, want := range sysctls {
					got := read(filepath.Join(procSys, strings.ReplaceAll(key, ".", "/")))
					if strings.Join(strings.Fields(got), " ") != want {
						t.Errorf("%s is %q, want %q", key, got, want)
					}
				}
				return nil
			})
		})
	}
}

// The node's own sysctls are as they were, whatever a pod asks for.
func TestCVE20220811AndCVE20220532LeaveTheNodeAlone(t *testing.T) {
	watched := []string{"kernel/core_pattern", "net/ipv4/ip_local_port_range", "kernel/shm_rmid_forced"}
	before := map[string]string{}
	for _, path := range watched {
		before[path] = read(filepath.Join(procSys, path))
	}
	for name, change := range map[string]func(*Request){
		"CVE-2022-0811": func(r *Request) {
			r.Sysctls = map[string]string{"kernel.shm_rmid_forced": "1+kernel.core_pattern=|/evil"}
		},
		"CVE-2022-0811, a line end": func(r *Request) {
			r.Sysctls = map[string]string{"kernel.shm_rmid_forced": "1\nkernel.core_pattern=|/evil"}
		},
		"CVE-2022-0532, network": func(r *Request) {
			r.Network, r.Sysctls = false, map[string]string{"net.ipv4.ip_local_port_range": "1024 65000"}
		},
		"CVE-2022-0532, IPC": func(r *Request) { r.IPC, r.Sysctls = false, map[string]string{"kernel.shm_rmid_forced": "1"} },
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t)
			change(&r)
			if err := Pin(t.Context(), r); fault.KindOf(err) != fault.Invalid {
				t.Errorf("%v, want one of kind Invalid", err)
			}
		})
	}
	for path, want := range before {
		if got := read(filepath.Join(procSys, path)); got != want {
			t.Errorf("the node's %s is %q, it was %q", path, got, want)
		}
	}
}

// plain are the kinds of a pod with the node's users.
func plain() []Kind { return []Kind{Network, IPC, UTS} }
