package oci_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/oci"
)

func TestLife(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", "echo hello; exit 7")
	first := n.create(in)
	again := n.create(in)
	if first != again || first.PID == 0 {
		t.Errorf("created %+v, and again %+v", first, again)
	}
	for _, want := range []bool{false, true} {
		if already := n.start("c1"); already != want {
			t.Errorf("started before: %v, want %v", already, want)
		}
	}
	if e := n.exit("c1"); e.Code != 7 || e.Unknown != "" {
		t.Errorf("exit %+v", e)
	}
	// Started, although it has ended since.
	if !n.start("c1") {
		t.Error("it was started before")
	}
	if said := n.said("c1"); said != "hello\n" {
		t.Errorf("said %q", said)
	}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := n.driver.Kill(t.Context(), n.container("c1"), sig, true); err != nil {
			t.Errorf("%v to what has ended: %v", sig, err)
		}
	}
	info, err := os.Stat(filepath.Join(n.container("c1").Bundle, "config.json"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("config.json: %v, %v", info.Mode(), err)
	}
	n.delete(t.Context(), "c1")
	if err := n.driver.Kill(t.Context(), n.container("c1"), unix.SIGKILL, true); err != nil {
		t.Errorf("kill what is gone: %v", err)
	}
	if _, err := n.driver.Start(t.Context(), n.container("c1")); fault.KindOf(err) != fault.Precondition {
		t.Errorf("start what is gone: %v", err)
	}
}

func TestStartOfWhatDied(t *testing.T) {
	n := newNode(t)
	p := n.create(n.input("c1", "true"))
	n.must(n.driver.Kill(t.Context(), n.container("c1"), unix.SIGKILL, false))
	n.eventually("the process is gone", func() bool { return gone(p.PID) })
	for range 2 {
		if _, err := n.driver.Start(t.Context(), n.container("c1")); fault.KindOf(err) != fault.Precondition {
			t.Errorf("error %v", err)
		}
	}
}

// A pid file whose pid now belongs to another process must not be waited for.
func TestStartWithAForeignPid(t *testing.T) {
	n := newNode(t)
	// As long as real ids are: the name of this process's own cgroup can contain a short one.
	id := strings.Repeat("c1", 32)
	p := n.create(n.input(id, "true"))
	n.must(n.driver.Kill(t.Context(), n.container(id), unix.SIGKILL, false))
	n.eventually("the process is gone", func() bool { return gone(p.PID) })
	n.must(os.WriteFile(filepath.Join(n.container(id).Bundle, "init.pid"), fmt.Append(nil, os.Getpid()), 0o600))
	if _, err := n.driver.Start(t.Context(), n.container(id)); fault.KindOf(err) != fault.Precondition {
		t.Errorf("error %v", err)
	}
}

// The daemon was killed after the container had continued, and before it removed
// the FIFO: nobody will write to it again.
func TestStartAfterAKilledStart(t *testing.T) {
	n := newNode(t)
	n.run(n.input("c1", "sleep 1000"))
	fifo := n.path("runc/c1/exec.fifo")
	n.must(unix.Mkfifo(fifo, 0o600))
	if !n.start("c1") {
		t.Error("it was started before")
	}
	if _, err := os.Stat(fifo); err == nil {
		t.Error("the FIFO is still there")
	}
}

func TestStartTwiceAtOnce(t *testing.T) {
	n := newNode(t)
	for i := range 5 {
		id := fmt.Sprint("c", i)
		n.create(n.input(id, "sleep 1000"))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if _, err := n.driver.Start(t.Context(), n.container(id)); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			})
		}
		wg.Wait()
	}
}

func TestManyAtOnce(t *testing.T) {
	n := newNode(t)
	var wg sync.WaitGroup
	for i := range 12 {
		in := n.input(fmt.Sprint("c", i), "sleep 1000")
		wg.Go(func() {
			c := n.container(in.ContainerID)
			_, err := n.driver.Create(t.Context(), n.bundle(in))
			if err == nil {
				_, err = n.driver.Start(t.Context(), c)
			}
			if err == nil {
				err = n.driver.Kill(t.Context(), c, unix.SIGKILL, true)
			}
			if err == nil {
				err = n.driver.Delete(t.Context(), c)
			}
			if err != nil {
				t.Errorf("%s: %v", c.ID, err)
			}
		})
	}
	wg.Wait()
}

// What a killed runtime or monitor left in the runtime is no obstacle.
func TestCreateOverLeftovers(t *testing.T) {
	for name, leave := range map[string]func(n *node, b oci.Bundle){
		"a directory": func(n *node, b oci.Bundle) { n.must(os.MkdirAll(n.path("runc/c1"), 0o700)) },
		"a live container": func(n *node, b oci.Bundle) {
			n.must(os.MkdirAll(b.Dir, 0o700))
			// The driver's own bundle, created behind the monitor's back.
			_, err := n.driver.Create(n.t.Context(), b)
			n.must(err)
			n.must(n.driver.Delete(n.t.Context(), n.container("c1")))
			n.must(n.monitor.Ack(n.t.Context(), n.exit("c1").Seq))
			n.must(n.monitor.Forget(n.t.Context(), "c1"))
			cmd := exec.Command(tools.runc, "--root", n.path("runc"), "create", "--bundle", b.Dir, "c1")
			if err := cmd.Run(); err != nil {
				n.t.Fatalf("runc create: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			b := n.bundle(n.input("c1", "echo fresh"))
			leave(n, b)
			_, err := n.driver.Create(t.Context(), b)
			n.must(err)
			n.start("c1")
			n.exit("c1")
			if said := n.said("c1"); said != "fresh\n" {
				t.Errorf("said %q", said)
			}
		})
	}
}

func TestCreateRefused(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", "")
	in.Container.Command = []string{"no-such-program"}
	_, err := n.driver.Create(t.Context(), n.bundle(in))
	if err == nil || !strings.Contains(err.Error(), "c1") || !strings.Contains(err.Error(), `"no-such-program": executable file not found`) {
		t.Errorf("error %v", err)
	}
}

// A runtime that hangs is ended at the deadline.
func TestCreateHangs(t *testing.T) {
	n := newNode(t)
	hanging := n.path("hanging")
	script := "#!/bin/sh\ncase \"$*\" in *--version) echo slow version 1;; *create*) exec sleep 1000;; esac\n"
	n.must(os.WriteFile(hanging, []byte(script), 0o755))
	d := n.newDriver(oci.Runtime{Name: "slow", Path: hanging, StateRoot: n.path("slow")})
	b := n.bundle(n.input("c1", "true"))
	b.Deadline = 200 * time.Millisecond
	if _, err := d.Create(t.Context(), b); fault.KindOf(err) != fault.Deadline {
		t.Errorf("error %v", err)
	}
	if d.Features() != nil {
		// Its "features" command says nothing.
		t.Error("features of a runtime without any")
	}
}

// In a PID namespace that is shared, a container's processes outlive its first.
func TestKillAll(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", "sleep 1001 & echo ready; exec sleep 1000")
	security(in).NamespaceOptions.Pid = cri.NamespaceMode_NODE
	p := n.run(in)
	n.eventually("both run", func() bool { return len(n.members("c1")) == 2 })
	n.must(n.driver.Kill(t.Context(), n.container("c1"), unix.SIGTERM, false))
	n.eventually("the first process is gone", func() bool { return gone(p.PID) })
	if left := n.members("c1"); len(left) != 1 {
		t.Fatalf("left: %v", left)
	}
	n.must(n.driver.Kill(t.Context(), n.container("c1"), unix.SIGKILL, true))
	n.eventually("all are gone", func() bool { return len(n.members("c1")) == 0 })
}

// The same without Kill: Delete leaves nothing.
func TestDeleteKillsWhatIsLeft(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", "sleep 1001 & sleep 1002 & echo ready; exec sleep 1000")
	security(in).NamespaceOptions.Pid = cri.NamespaceMode_NODE
	n.run(in)
	n.eventually("all run", func() bool { return len(n.members("c1")) == 3 })
	members := n.members("c1")
	n.delete(t.Context(), "c1")
	for _, pid := range members {
		n.eventually("the process is gone", func() bool { return gone(pid) })
	}
}

// members lists the processes of a container's cgroup.
func (n *node) members(id string) []int {
	var pids []int
	for field := range strings.FieldsSeq(strings.TrimPrefix(n.cgroupFile(id, "memory", "cgroup.procs", "cgroup.procs"), "cgroup.procs=")) {
		var pid int
		fmt.Sscan(field, &pid)
		pids = append(pids, pid)
	}
	return pids
}

// A runtime of another name is driven by its commands alone.
func TestOtherRuntime(t *testing.T) {
	n := newNode(t)
	other := n.path("other")
	script := "#!/bin/sh\n[ \"$1\" = --version ] && echo other version 9.9.9 && exit\n[ \"$1\" = features ] && exit 1\nexec " + tools.runc + " \"$@\"\n"
	n.must(os.WriteFile(other, []byte(script), 0o755))
	n.driver = n.newDriver(oci.Runtime{Name: "other", Path: other, StateRoot: n.path("runc")})
	if v := n.driver.Version(); v.Name != "other" || n.driver.Features() != nil {
		t.Errorf("version %+v, features %v", v, n.driver.Features())
	}
	n.run(n.input("c1", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done"))
	n.start("c1")
	n.eventually("it waits for the signal", func() bool { return n.said("c1") == "ready\n" })
	n.must(n.driver.Kill(t.Context(), n.container("c1"), unix.SIGTERM, false))
	if e := n.exit("c1"); e.Code != 3 {
		t.Errorf("exit %+v", e)
	}
	n.must(n.driver.Kill(t.Context(), n.container("c1"), unix.SIGTERM, false))
	n.start("c1")
}

func TestNewRefuses(t *testing.T) {
	n := newNode(t)
	silent := n.path("silent")
	n.must(os.WriteFile(silent, []byte("#!/bin/sh\n"), 0o755))
	for _, path := range []string{"/no/such/runtime", "no-such-runtime", silent} {
		_, err := oci.New(t.Context(), oci.Config{Runtime: oci.Runtime{Name: "x", Path: path, StateRoot: n.path("x")}, Monitor: n.monitor, Cgroups: n.cgroups})
		if fault.KindOf(err) != fault.Unsupported {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// CVE-2024-21626: a runc that leaks descriptors of the node.
func TestOldRuncIsRefusedCVE2024_21626(t *testing.T) {
	n := newNode(t)
	for version, refused := range map[string]bool{"1.1.5": true, "1.0.0-rc95": true, "1.1.11": true, "1.1.12": false, "1.5.2": false} {
		old := n.path("runc-" + version)
		n.must(os.WriteFile(old, []byte("#!/bin/sh\n[ \"$1\" = features ] && echo '{}' || echo runc version "+version+"\n"), 0o755))
		_, err := oci.New(t.Context(), oci.Config{
			Runtime: oci.Runtime{Name: "old", Path: old, StateRoot: n.path("old")}, Monitor: n.monitor, Cgroups: n.cgroups,
		})
		if !refused && err == nil {
			continue
		}
		if fault.KindOf(err) != fault.Unsupported || !refused || !strings.Contains(err.Error(), "use 1.1.12 or newer") {
			t.Errorf("%s: %v", version, err)
		}
	}
}

// A container that has ended costs no execution of the runtime, unless the runtime has something
// to execute.
func TestDeleteWithoutRuntime(t *testing.T) {
	n := newNode(t)
	calls, counting := n.path("calls"), n.path("counting")
	n.must(os.WriteFile(counting, []byte("#!/bin/sh\necho \"$@\" >> "+calls+"\nexec "+tools.runc+" \"$@\"\n"), 0o755))
	n.driver = n.newDriver(oci.Runtime{Name: "runc", Path: counting, StateRoot: n.path("runc")})
	deletes := func() int {
		said, err := os.ReadFile(calls)
		n.must(err)
		return strings.Count(string(said), " delete ")
	}
	n.run(n.input("c1", "true"))
	n.exit("c1")
	n.delete(t.Context(), "c1")
	if got := deletes(); got != 0 {
		t.Errorf("%d executions for a container that had ended", got)
	}
	hook := n.path("hooked")
	s, err := n.plan(n.input("c2", "true"))
	n.must(err)
	s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: tools.busybox, Args: []string{"busybox", "touch", hook}}}}
	_, err = n.driver.Create(t.Context(), n.bundleOf("c2", s))
	n.must(err)
	n.start("c2")
	n.exit("c2")
	n.delete(t.Context(), "c2")
	if _, err := os.Stat(hook); err != nil || deletes() != 1 {
		t.Errorf("the hook after the end: %v; %d executions", err, deletes())
	}
}

func TestDeleteUnknown(t *testing.T) {
	n := newNode(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.driver.Delete(ctx, n.container("never")); err != nil {
		t.Error(err)
	}
	// A bundle, and nothing else: the runtime was never reached.
	b := n.bundle(n.input("c1", "true"))
	if _, err := os.Stat(b.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := n.driver.Delete(ctx, n.container("c1")); err != nil {
		t.Error(err)
	}
}
