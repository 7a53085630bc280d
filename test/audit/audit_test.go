package audit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Each test plants one kind of trace on the real node. The audit must find it, and nothing
// else; once it is gone, the audit must find nothing.

func TestFindsMounts(t *testing.T) {
	t.Run("in a directory", func(t *testing.T) {
		scope := newScope(t)
		point := mkdir(t, scope.State, "shm")
		run(t, "mount", "-t", "tmpfs", "none", point)
		undo := cleanup(t, func() { run(t, "umount", point) })
		expect(t, scope, Trace{Mount, point})
		undo()
		expect(t, scope)
	})
	t.Run("made of a directory", func(t *testing.T) {
		scope := newScope(t)
		lower, point := mkdir(t, scope.Root, "lower"), t.TempDir()
		run(t, "mount", "-t", "overlay", "none", "-o", "lowerdir="+lower+":"+mkdir(t, scope.Root, "lower2"), point)
		undo := cleanup(t, func() { run(t, "umount", point) })
		expect(t, scope, Trace{Mount, point})
		undo()
		expect(t, scope)
	})
	t.Run("pinned network namespace", func(t *testing.T) {
		scope := newScope(t)
		pin := filepath.Join(scope.State, "netns")
		write(t, pin, "")
		run(t, "unshare", "--net="+pin, "true")
		undo := cleanup(t, func() { run(t, "umount", pin) })
		expect(t, scope, Trace{Mount, pin})
		undo()
		expect(t, scope)
	})
}

// wait is what a planted process does.
const wait = "read -r _ || :"

// plants start, each in its own way, a process that belongs to the scope and waits.
var plants = map[string]func(t *testing.T, scope *Scope) *exec.Cmd{
	"by an argument": func(t *testing.T, scope *Scope) *exec.Cmd {
		return exec.Command("sh", "-c", wait, "--state", scope.State)
	},
	"by an id": func(t *testing.T, scope *Scope) *exec.Cmd {
		scope.IDs = []string{fmt.Sprintf("%064x", os.Getpid())}
		return exec.Command("sh", "-c", wait, "delete", scope.IDs[0])
	},
	"by its executable": func(t *testing.T, scope *Scope) *exec.Cmd {
		program := filepath.Join(scope.Dirs[0], "cat")
		busybox, err := exec.LookPath("busybox")
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(busybox)
		if err != nil {
			t.Fatal(err)
		}
		write(t, program, string(content))
		if err := os.Chmod(program, 0o755); err != nil {
			t.Fatal(err)
		}
		return &exec.Cmd{Path: program, Args: []string{"cat"}}
	},
	"by its working directory": func(t *testing.T, scope *Scope) *exec.Cmd {
		cmd := exec.Command("sh", "-c", wait)
		cmd.Dir = mkdir(t, scope.Root, "bundle")
		return cmd
	},
	"by its cgroup": func(t *testing.T, scope *Scope) *exec.Cmd {
		dir := plantCgroup(t, scope, "pids")
		return exec.Command("sh", "-c", "echo $$ >"+filepath.Join(dir, "cgroup.procs")+" && "+wait)
	},
	"by its root file system": func(t *testing.T, scope *Scope) *exec.Cmd {
		file := filepath.Join(scope.State, "hosts")
		write(t, file, "")
		target := filepath.Join(t.TempDir(), "hosts")
		write(t, target, "")
		script := fmt.Sprintf(`mount --bind "$FILE" %q && unset FILE && exec sh -c %q`, target, wait)
		cmd := exec.Command("unshare", "--mount", "sh", "-c", script)
		cmd.Env = append(os.Environ(), "FILE="+file)
		return cmd
	},
}

func TestFindsProcesses(t *testing.T) {
	for name, plant := range plants {
		t.Run(name, func(t *testing.T) {
			scope := newScope(t)
			cmd := plant(t, &scope)
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			undo := cleanup(t, func() {
				stdin.Close()
				cmd.Wait()
			})
			detail := fmt.Sprintf("pid %d, ", cmd.Process.Pid)
			// A child has the same traces, for a moment.
			leak := eventually(t, scope, Process)
			for try := 0; !strings.HasPrefix(leak.Detail, detail) && try < 500; try++ {
				time.Sleep(10 * time.Millisecond)
				leak = eventually(t, scope, Process)
			}
			if !strings.HasPrefix(leak.Detail, detail) {
				t.Errorf("found %s, want one with %s", leak, detail)
			}
			undo()
			for _, leak := range take(t, scope) {
				if leak.Kind == Process {
					t.Errorf("found %s after it ended", leak)
				}
			}
		})
	}
}

func TestFindsZombies(t *testing.T) {
	scope := newScope(t)
	// The shell becomes a program that reaps no children.
	cmd := exec.Command("sh", "-c", "true & exec cat")
	cmd.Dir = scope.State
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cleanup(t, func() {
		stdin.Close()
		cmd.Wait()
	})
	want := fmt.Sprintf("a zombie of %d", cmd.Process.Pid)
	for range 500 {
		for _, leak := range take(t, scope) {
			if strings.HasSuffix(leak.Detail, want) {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("the audit found no %s", want)
}

func TestFindsCgroups(t *testing.T) {
	for _, controller := range []string{"memory", "unified"} {
		t.Run(controller, func(t *testing.T) {
			scope := newScope(t)
			dir := plantCgroup(t, &scope, controller)
			expect(t, scope, Trace{Cgroup, dir})
			// The parent is the kubelet's.
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
			expect(t, scope)
		})
	}
	t.Run("by an id", func(t *testing.T) {
		scope := newScope(t)
		dir := plantCgroup(t, &scope, "memory")
		scope.Cgroups, scope.IDs = nil, []string{filepath.Base(dir)}
		expect(t, scope, Trace{Cgroup, dir})
	})
}

func TestFindsVeths(t *testing.T) {
	scope := newScope(t)
	bridge, veth := fmt.Sprintf("audit%d", os.Getpid()), fmt.Sprintf("aud%da", os.Getpid())
	run(t, "ip", "link", "add", bridge, "type", "bridge")
	cleanup(t, func() { run(t, "ip", "link", "del", bridge) })
	scope.Bridges = []string{bridge}
	expect(t, scope)
	run(t, "ip", "link", "add", veth, "master", bridge, "type", "veth")
	undo := cleanup(t, func() { run(t, "ip", "link", "del", veth) })
	expect(t, scope, Trace{Veth, veth})
	undo()
	expect(t, scope)
}

func TestFindsAddresses(t *testing.T) {
	scope := newScope(t)
	dir := mkdir(t, scope.IPAM[0], "net")
	write(t, filepath.Join(dir, "lock"), "")
	write(t, filepath.Join(dir, "last_reserved_ip.0"), "10.85.0.2")
	expect(t, scope)
	write(t, filepath.Join(dir, "10.85.0.2"), "someid\neth0")
	expect(t, scope, Trace{Address, filepath.Join(dir, "10.85.0.2")})
}

func TestFindsFirewallRules(t *testing.T) {
	scope := newScope(t)
	network := fmt.Sprintf("audit%d", os.Getpid())
	scope.Networks = []string{network}
	chain := "CNI-DN-0123456789abcdef01234"
	run(t, "iptables", "-t", "nat", "-N", chain)
	undoChain := cleanup(t, func() { run(t, "iptables", "-t", "nat", "-X", chain) })
	expect(t, scope, Trace{Firewall, "chain " + chain})

	rule := []string{"POSTROUTING", "-s", "192.0.2.1", "-m", "comment", "--comment", `name: "` + network + `" id: "x"`, "-j", chain}
	run(t, "iptables", append([]string{"-t", "nat", "-A"}, rule...)...)
	undoRule := cleanup(t, func() { run(t, "iptables", append([]string{"-t", "nat", "-D"}, rule...)...) })
	leaks := take(t, scope)
	if len(leaks) != 1 || leaks[0].Kind != Firewall || !strings.HasPrefix(leaks[0].What, "-A POSTROUTING -s 192.0.2.1") {
		t.Errorf("found %v, want the rule", leaks)
	}

	other := scope
	other.Networks = []string{network + "x"}
	expect(t, other)

	undoRule()
	undoChain()
	expect(t, scope)
}

func TestFindsFiles(t *testing.T) {
	scope := newScope(t)
	id := fmt.Sprintf("%064x", os.Getpid())
	write(t, filepath.Join(scope.Root, "events.db"), "")
	write(t, filepath.Join(scope.State, "monitor.sock"), "")
	mkdir(t, scope.State, "sandboxes")
	expect(t, scope)
	bundle := mkdir(t, scope.State, "sandboxes", id)
	write(t, filepath.Join(bundle, "config.json"), "{}")
	cached := filepath.Join(scope.Root, "cni", "results-net-"+id+"-eth0")
	write(t, cached, "{}")
	expect(t, scope, Trace{File, bundle}, Trace{File, cached})
}

func TestFindsStorage(t *testing.T) {
	scope := newScope(t)
	store := filepath.Join(scope.Root, "storage")
	base, top, own, stray := strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 64), strings.Repeat("d", 64)
	write(t, filepath.Join(store, "overlay-images/images.json"), fmt.Sprintf(`[{"id":"i","layer":%q}]`, top))
	write(t, filepath.Join(store, "overlay-layers/layers.json"), fmt.Sprintf(`[{"id":%q},{"id":%q,"parent":%q}]`, base, top, base))
	for _, layer := range []string{base, top, own} {
		mkdir(t, store, "overlay", layer)
	}
	mkdir(t, store, "overlay", "l")
	write(t, filepath.Join(store, "overlay-layers/volatile-layers.json"), fmt.Sprintf(`[{"id":%q,"parent":%q}]`, own, top))
	write(t, filepath.Join(store, "overlay-containers/volatile-containers.json"), `[{"id":"c1","names":["n"],"layer":"x"}]`)
	expect(t, scope, Trace{Container, "c1"}, Trace{Layer, own})

	write(t, filepath.Join(store, "overlay-layers/volatile-layers.json"), `[]`)
	write(t, filepath.Join(store, "overlay-containers/volatile-containers.json"), `[]`)
	expect(t, scope, Trace{Layer, filepath.Join(store, "overlay", own)})

	if err := os.Remove(filepath.Join(store, "overlay", own)); err != nil {
		t.Fatal(err)
	}
	expect(t, scope)
	mkdir(t, store, "overlay", stray)
	expect(t, scope, Trace{Layer, filepath.Join(store, "overlay", stray)})
}

func TestFindsWritableLayers(t *testing.T) {
	scope := newScope(t)
	store := filepath.Join(scope.Root, "storage")
	image, hold := strings.Repeat("a", 64), strings.Repeat("b", 64)
	write(t, filepath.Join(store, "overlay-images/images.json"), fmt.Sprintf(`[{"id":"i","layer":%q}]`, image))
	write(t, filepath.Join(store, "overlay-layers/layers.json"), fmt.Sprintf(`[{"id":%q},{"id":%q,"parent":%q}]`, image, hold, image))
	held := `[{"id":"h","image":%q,"layer":%q,"metadata":"{\"owner\":\"stele.hold.v1\"}"}]`
	write(t, filepath.Join(store, "overlay-containers/volatile-containers.json"), fmt.Sprintf(held, "i", hold))
	own := filepath.Join(store, "stele-writable")
	for _, dir := range []string{"records", "removed", "overlay/l"} {
		mkdir(t, own, dir)
	}
	write(t, filepath.Join(own, "overlay/.has-mount-program"), "false")
	expect(t, scope)
	// One whose image is gone is left over.
	write(t, filepath.Join(store, "overlay-containers/volatile-containers.json"), fmt.Sprintf(held, "another", hold))
	expect(t, scope, Trace{Container, "h"}, Trace{Layer, hold})

	write(t, filepath.Join(store, "overlay-containers/volatile-containers.json"), fmt.Sprintf(held, "i", hold))
	var want []Trace
	for _, path := range []string{"records/" + image, "removed/" + image + "-1-1", "overlay/" + image, "overlay/l/LINK"} {
		mkdir(t, own, path)
		want = append(want, Trace{Layer, filepath.Join(own, path)})
	}
	expect(t, scope, want...)
}

func TestLeaksCountsWhatIsTheSame(t *testing.T) {
	daemon := Trace{Process, "stele serve"}
	before := Snapshot{daemon: {"pid 1"}, Trace{Mount, "/a"}: {""}}
	if leaks := Leaks(before, Snapshot{daemon: {"pid 2"}}); len(leaks) != 0 {
		t.Errorf("a daemon that was started again is no leak, got %v", leaks)
	}
	leaks := Leaks(before, Snapshot{daemon: {"pid 2", "pid 3"}})
	if len(leaks) != 1 || leaks[0].Detail != "pid 3" {
		t.Errorf("a second daemon is a leak, got %v", leaks)
	}
}

func TestLastingForgivesWhatGoesAway(t *testing.T) {
	scope := newScope(t)
	dir := mkdir(t, scope.State, strings.Repeat("e", 64))
	done := make(chan error)
	go func() {
		time.Sleep(300 * time.Millisecond)
		done <- os.Remove(dir)
	}()
	leaks, err := Lasting(scope, nil, time.Minute)
	if err != nil || len(leaks) != 0 {
		t.Errorf("got %v, %v; want nothing", leaks, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func newScope(t *testing.T) Scope {
	t.Helper()
	dir := t.TempDir()
	return Scope{
		Root: mkdir(t, dir, "root"), State: mkdir(t, dir, "state"), Dirs: []string{mkdir(t, dir, "logs")},
		IPAM: []string{mkdir(t, dir, "ipam")}, Cgroups: []string{fmt.Sprintf("/audit%d", os.Getpid())},
	}
}

// plantCgroup makes a child of the scope's parent in one hierarchy and returns
// its path.
func plantCgroup(t *testing.T, scope *Scope, hierarchy string) string {
	t.Helper()
	parent := filepath.Join("/sys/fs/cgroup", hierarchy, scope.Cgroups[0])
	if _, err := os.Stat(filepath.Dir(parent)); err != nil {
		// cgroup v2: one hierarchy for all.
		parent = filepath.Join("/sys/fs/cgroup", scope.Cgroups[0])
	}
	dir := filepath.Join(parent, strings.Repeat("f", 64))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A cgroup is busy for a moment after its last process.
		for try := 0; try < 100; try++ {
			if err := syscall.Rmdir(dir); err == nil || err == syscall.ENOENT {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err := syscall.Rmdir(parent); err != nil && err != syscall.ENOENT {
			t.Errorf("remove %s: %v", parent, err)
		}
	})
	return dir
}

func take(t *testing.T, scope Scope) []Leak {
	t.Helper()
	after, err := Take(scope)
	if err != nil {
		t.Fatal(err)
	}
	return Leaks(nil, after)
}

// expect checks that the audit finds exactly these.
func expect(t *testing.T, scope Scope, want ...Trace) {
	t.Helper()
	found := map[Trace]bool{}
	for _, leak := range take(t, scope) {
		found[leak.Trace] = true
	}
	for _, trace := range want {
		if !found[trace] {
			t.Errorf("the audit missed %v", trace)
		}
		delete(found, trace)
	}
	for trace := range found {
		t.Errorf("the audit found %v, which nobody left", trace)
	}
}

// eventually waits until the audit finds a trace of the kind.
func eventually(t *testing.T, scope Scope, kind Kind) Leak {
	t.Helper()
	for range 500 {
		for _, leak := range take(t, scope) {
			if leak.Kind == kind {
				return leak
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the audit found no %s", kind)
	return Leak{}
}

// cleanup calls undo once: when the caller wants, or at the test's end.
func cleanup(t *testing.T, undo func()) func() {
	done := false
	once := func() {
		if !done {
			done = true
			undo()
		}
	}
	t.Cleanup(once)
	return once
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func mkdir(t *testing.T, elements ...string) string {
	t.Helper()
	dir := filepath.Join(elements...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
