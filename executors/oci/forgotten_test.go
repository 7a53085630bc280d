package oci_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/oci"
)

// Somebody has removed the bundle and the runtime's state under a container whose PID
// namespace is not its own. What is recorded of it is enough to end all its processes,
// also when the monitor does not know it.
func TestDeleteWithoutStateDirectory(t *testing.T) {
	for _, watched := range []bool{true, false} {
		n := newNode(t)
		in := n.input("c1", "sleep 1001 & exec sleep 1000")
		security(in).NamespaceOptions.Pid = cri.NamespaceMode_NODE
		p := n.run(in)
		n.eventually("both run", func() bool { return len(n.members("c1")) == 2 })
		members := n.members("c1")
		c := n.container("c1")
		c.Init, c.CgroupsPath = p, in.CgroupsPath
		n.must(os.RemoveAll(c.Bundle))
		n.must(os.RemoveAll(n.path("runc/c1")))
		if !watched {
			// The monitor's place is taken by one that knows nothing.
			n.driver = n.driverOf(forgetful{n.monitor})
		}
		n.must(n.driver.Delete(t.Context(), c))
		for _, pid := range members {
			n.eventually("the process is gone", func() bool { return gone(pid) })
		}
		n.noCgroups("stele-c1")
	}
}

// forgetful is a monitor that has lost its containers.
type forgetful struct{ *monitor.Client }

func (forgetful) Signal(context.Context, string, int) error { return monitor.ErrNotFound }

// driverOf is the node's driver with another monitor.
func (n *node) driverOf(m oci.Monitor) *oci.Driver {
	n.t.Helper()
	d, err := oci.New(n.t.Context(), oci.Config{Runtime: n.driver.Runtime(), Monitor: m, Cgroups: n.cgroups})
	n.must(err)
	return d
}

// A daemon has ended while the monitor creates a container for it, and the next one deletes
// that: the runtime may not have begun when it looks.
func TestDeleteWhileCreating(t *testing.T) {
	n := newNode(t)
	slow, begun, proceed := n.path("slow"), n.path("begun"), n.path("proceed")
	script := "#!/bin/sh\ncase \"$*\" in *\" create \"*) touch " + begun + "; until [ -e " + proceed + " ]; do sleep 0.01; done;; esac\nexec " + tools.runc + " \"$@\"\n"
	n.must(os.WriteFile(slow, []byte(script), 0o755))
	d := n.newDriver(oci.Runtime{Name: "runc", Path: slow, StateRoot: n.path("runc")})
	created := make(chan error, 1)
	go func() {
		_, err := d.Create(t.Context(), n.bundle(n.input("c1", "sleep 1000")))
		created <- err
	}()
	n.eventually("the runtime was called", func() bool { _, err := os.Stat(begun); return err == nil })
	n.driver = n.driverOf(hearing{n.monitor, func() { n.must(os.WriteFile(proceed, nil, 0o644)) }})
	n.must(n.driver.Delete(t.Context(), n.container("c1")))
	n.must(<-created)
	if _, err := os.Stat(n.path("runc/c1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the runtime still has the container: %v", err)
	}
	n.exit("c1")
	n.noCgroups("stele-c1")
}

// hearing is a monitor that says when a signal is on its way to it.
type hearing struct {
	*monitor.Client
	signal func()
}

func (h hearing) Signal(ctx context.Context, id string, signal int) error {
	h.signal()
	return h.Client.Signal(ctx, id, signal)
}

// The recorded identity of a process that has ended does no harm to the next one that
// has its pid.
func TestForgottenIdentityOfAnother(t *testing.T) {
	n := newNode(t)
	n.driver = n.driverOf(forgetful{n.monitor})
	p := n.run(n.input("c1", "sleep 1000"))
	another := p
	another.StartTime++
	n.must(n.driver.Delete(t.Context(), oci.Container{ID: "c2", Bundle: n.path("bundles/c2"), Init: another}))
	if gone(p.PID) {
		t.Error("a process was killed for another")
	}
}

// A frozen process does not end by SIGKILL on cgroup v1. It is thawed.
func TestKillOfWhatIsFrozen(t *testing.T) {
	n := newNode(t)
	for _, end := range []func(oci.Container) error{
		func(c oci.Container) error { return n.driver.Kill(t.Context(), c, unix.SIGKILL, true) },
		func(c oci.Container) error { return n.driver.Delete(t.Context(), c) },
	} {
		in := n.input("c1", "exec sleep 1000")
		p := n.run(in)
		dir := n.freeze(in.CgroupsPath)
		c := n.container("c1")
		c.Init = p
		n.must(end(c))
		n.eventually("the process is gone", func() bool { return gone(p.PID) })
		n.delete(t.Context(), "c1")
		if _, err := os.Stat(dir); err == nil {
			t.Error("its cgroup is left")
		}
	}
}

// What the pod's own cgroup keeps frozen stays so: that is somebody else's. The failure
// says who is waited for.
func TestKillOfWhatIsFrozenFromAbove(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", "exec sleep 1000")
	p := n.run(in)
	pod := filepath.Dir(in.CgroupsPath)
	dir := n.freeze(pod)
	c := n.container("c1")
	c.Init = p
	if !n.host.CgroupV2 {
		err := n.driver.Kill(t.Context(), c, unix.SIGKILL, true)
		if err == nil || !strings.Contains(err.Error(), pod+", which somebody has frozen") {
			t.Errorf("error %v", err)
		}
		n.must(os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0))
	}
	n.must(n.driver.Kill(t.Context(), c, unix.SIGKILL, true))
	n.eventually("the process is gone", func() bool { return gone(p.PID) })
}

// freeze freezes a cgroup, and returns its directory.
func (n *node) freeze(path string) string {
	n.t.Helper()
	h, ok := n.cgroups.Node().Find("freezer")
	file, text, frozen := "freezer.state", "FROZEN", "FROZEN"
	if !ok {
		h, _ = n.cgroups.Node().Find("memory")
		file, text, frozen = "cgroup.freeze", "1", "1"
	}
	dir := filepath.Join(h.Mountpoint, path)
	n.must(os.WriteFile(filepath.Join(dir, file), []byte(text), 0))
	n.eventually("it is frozen", func() bool {
		state, err := os.ReadFile(filepath.Join(dir, file))
		n.must(err)
		return strings.TrimSpace(string(state)) == frozen
	})
	return dir
}
