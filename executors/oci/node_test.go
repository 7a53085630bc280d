package oci_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/cgroups"
	"github.com/stele-runtime/stele/executors/facts"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/oci"
	"github.com/stele-runtime/stele/executors/podfiles"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/volumes"
)

// patience bounds how long a test waits for what must happen.
const patience = 30 * time.Second

// node has a monitor, a runtime and a pod, and everything below one directory.
type node struct {
	t       testing.TB
	dir     string
	monitor *monitor.Client
	cgroups *cgroups.Manager
	host    *spec.HostFacts
	driver  *oci.Driver
	pod     *cri.PodSandboxConfig
	files   spec.Files

	mu sync.Mutex
	// bundles are those of the containers that were made.
	bundles map[string]string
}

const podID = "pod"

// newNode starts a monitor. The test ends with nothing left of it.
func newNode(t testing.TB) *node {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root: it runs containers")
	}
	if tools.runc == "" || tools.busybox == "" {
		t.Fatalf("needs runc (found %q) and a static busybox (found %q)", tools.runc, tools.busybox)
	}
	// Short, since a socket's path is.
	dir, err := os.MkdirTemp("", "oci")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{
		t: t, dir: dir, bundles: map[string]string{},
		pod: &cri.PodSandboxConfig{
			Metadata: &cri.PodSandboxMetadata{Name: "p", Namespace: "ns", Uid: "u"},
			Hostname: "pod-host",
			Linux:    &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{}},
		},
	}
	t.Cleanup(n.end)
	n.makeRootfs(n.path("rootfs"))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n.monitor, err = monitor.Start(ctx, monitor.Config{
		Binary: tools.monitor, StateDir: n.path("state"), Build: "test", Logger: slog.New(slog.DiscardHandler),
	})
	n.must(err)
	found, err := cgroups.Detect()
	n.must(err)
	n.cgroups, err = cgroups.NewManager(found, cgroups.Cgroupfs, "/stele-"+filepath.Base(dir))
	n.must(err)
	n.host, err = facts.DetectHost()
	n.must(err)
	n.driver = n.newDriver(oci.Runtime{Name: "runc", Path: tools.runc, StateRoot: n.path("runc")})
	n.files = spec.Files(podfiles.In(n.path("pod")))
	n.must(podfiles.Write(n.path("pod"), n.pod, podfiles.Owner{}))
	n.must(podfiles.MountShm(n.files.Shm, spec.DefaultShmSize, podfiles.Owner{}))
	return n
}

func (n *node) newDriver(r oci.Runtime) *oci.Driver {
	n.t.Helper()
	d, err := oci.New(n.t.Context(), oci.Config{
		Runtime: r, Monitor: n.monitor, Cgroups: n.cgroups,
	})
	n.must(err)
	return d
}

// end deletes the containers, ends the monitor, and checks that nothing is left.
func (n *node) end() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for id := range n.bundles {
		n.delete(ctx, id)
	}
	if n.monitor != nil {
		if err := n.monitor.Shutdown(ctx); err != nil {
			n.t.Errorf("shut the monitor down: %v", err)
		}
		n.monitor.Close()
	}
	if n.t.Failed() {
		log, _ := os.ReadFile(n.path("state/monitor/monitor.log"))
		n.t.Logf("the monitor's log:\n%s", log)
	}
	if n.cgroups != nil {
		if err := errors.Join(n.cgroups.RemoveSandbox(ctx, "", podID), n.cgroups.RemoveRoot()); err != nil {
			n.t.Error(err)
		}
		n.noCgroups("stele-" + filepath.Base(n.dir))
	}
	if n.files.Shm != "" {
		if err := podfiles.Unmount(n.path("pod")); err != nil {
			n.t.Error(err)
		}
	}
	if entries, _ := os.ReadDir(n.path("runc")); len(entries) > 0 {
		n.t.Errorf("the runtime still has %v", entries)
	}
	if err := os.RemoveAll(n.dir); err != nil {
		n.t.Error(err)
	}
}

// delete deletes a container and has the monitor forget it, twice.
func (n *node) delete(ctx context.Context, id string) {
	n.t.Helper()
	for range 2 {
		if err := n.driver.Delete(ctx, n.container(id)); err != nil {
			n.t.Errorf("delete %s: %v", id, err)
		}
	}
	if err := n.monitor.Forget(ctx, id); err != nil {
		n.t.Errorf("forget %s: %v", id, err)
	}
	n.noCgroups("stele-" + id)
}

// noCgroups fails the test if there is a cgroup of that name below this node's.
func (n *node) noCgroups(name string) {
	n.t.Helper()
	for _, h := range n.cgroups.Node().Hierarchies {
		for _, pattern := range []string{"", "/stele-" + filepath.Base(n.dir), "/stele-" + filepath.Base(n.dir) + "/" + podID} {
			if _, err := os.Stat(filepath.Join(h.Mountpoint, pattern, name)); err == nil {
				n.t.Errorf("the cgroup %s%s/%s is left", h.Mountpoint, pattern, name)
			}
		}
	}
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// start starts a container, and returns whether it was started before.
func (n *node) start(id string) (already bool) {
	n.t.Helper()
	started, err := n.driver.Start(n.t.Context(), n.container(id))
	n.must(err)
	return started.Before
}

func (n *node) makeRootfs(dir string) {
	n.t.Helper()
	for _, sub := range []string{"bin", "etc", "tmp", "home/app", "vol", "proc", "dev", "sys", "run"} {
		n.must(os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	busybox, err := os.ReadFile(tools.busybox)
	n.must(err)
	n.must(os.WriteFile(filepath.Join(dir, "bin/busybox"), busybox, 0o755))
	for _, applet := range []string{
		"sh", "sleep", "cat", "true", "id", "grep", "mount", "umount", "ls", "pwd", "env", "touch", "head",
		"yes", "hostname", "unshare", "ps", "kill", "setsid", "readlink", "stat", "echo", "mkdir", "sort", "wc", "chmod",
	} {
		n.must(os.Symlink("busybox", filepath.Join(dir, "bin", applet)))
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
		"etc/group":  "root:x:0:\napp:x:1000:\naudio:x:29:app\n",
		"vol/seed":   "from the image",
		// The mount points that the runtime would make: containers of one test
		// share the directory, as no two real ones do.
		"etc/resolv.conf": "", "etc/hostname": "", "etc/hosts": "", "run/.containerenv": "",
	} {
		n.must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
}

// input is what the spec of a container that runs a shell script is made from.
func (n *node) input(id, script string) spec.Input {
	n.t.Helper()
	path, err := n.cgroups.ContainerPath("", podID, id)
	n.must(err)
	return spec.Input{
		SandboxID: podID, ContainerID: id, Sandbox: n.pod,
		Container: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: id},
			Image:    &cri.ImageSpec{Image: "busybox"},
			Command:  []string{"sh", "-c", script},
			Linux: &cri.LinuxContainerConfig{
				Resources: &cri.LinuxContainerResources{},
				SecurityContext: &cri.LinuxContainerSecurityContext{
					NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
					Seccomp:          &cri.SecurityProfile{},
				},
			},
		},
		Image:      &imagespec.Image{},
		Rootfs:     n.path("rootfs"),
		VolumesDir: n.path("volumes/" + id),
		// Any namespace that exists will do: making them is another package's work.
		Namespaces:  spec.Namespaces{Net: "/proc/self/ns/net", IPC: "/proc/self/ns/ipc"},
		Files:       n.files,
		CgroupsPath: path,
		Host:        n.host,
		Features:    n.driver.Features(),
	}
}

func security(in spec.Input) *cri.LinuxContainerSecurityContext {
	return in.Container.Linux.SecurityContext
}

func (n *node) container(id string) oci.Container {
	return oci.Container{ID: id, Bundle: n.path("bundles/" + id)}
}

// bundle makes a container's spec and what to create it from.
func (n *node) bundle(in spec.Input) oci.Bundle {
	n.t.Helper()
	s, err := n.plan(in)
	n.must(err)
	return n.bundleOf(in.ContainerID, s)
}

// plan makes a container's spec, and what it needs on the disk.
func (n *node) plan(in spec.Input) (*specs.Spec, error) {
	questions, err := spec.Ask(in)
	if err != nil {
		return nil, err
	}
	plan, err := spec.Container(in, facts.Answer(questions))
	if err != nil {
		return nil, err
	}
	return plan.Spec, volumes.Make(plan.Steps)
}

func (n *node) bundleOf(id string, s *specs.Spec) oci.Bundle {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.container(id)
	n.bundles[id] = c.Bundle
	return oci.Bundle{ID: id, Dir: c.Bundle, Spec: s, LogPath: n.logPath(id), Deadline: patience, Terminal: s.Process.Terminal}
}

func (n *node) logPath(id string) string { return n.path("logs/" + id + "/0.log") }

// create creates a container, and run starts it too.
func (n *node) create(in spec.Input) monitor.Process {
	n.t.Helper()
	p, err := n.driver.Create(n.t.Context(), n.bundle(in))
	n.must(err)
	return p
}

func (n *node) run(in spec.Input) monitor.Process {
	n.t.Helper()
	p := n.create(in)
	n.start(in.ContainerID)
	return p
}

// exit waits for a container's end.
func (n *node) exit(id string) monitor.Exit {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	for e := range n.monitor.Exits(ctx, 0) {
		if e.ContainerID == id {
			return e
		}
	}
	n.t.Fatalf("%s didn't end", id)
	return monitor.Exit{}
}

// output runs a container to its end and returns its output.
func (n *node) output(in spec.Input) string {
	n.t.Helper()
	n.run(in)
	e := n.exit(in.ContainerID)
	said := n.said(in.ContainerID)
	if e.Code != 0 {
		n.t.Fatalf("%s ended with %d: %s", in.ContainerID, e.Code, said)
	}
	return said
}

// said reads a container's log, without times and streams.
func (n *node) said(id string) string {
	n.t.Helper()
	// What the pipes still hold is in the log once the log was opened anew.
	n.must(n.monitor.ReopenLog(n.t.Context(), id))
	data, err := os.ReadFile(n.logPath(id))
	n.must(err)
	var text strings.Builder
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(line, " ", 4)
		if len(fields) != 4 {
			n.t.Fatalf("%s: no record: %q", n.logPath(id), line)
		}
		text.WriteString(fields[3])
	}
	return text.String()
}

// exec executes a shell script in a container, which must succeed.
func (n *node) exec(id, script string) string {
	n.t.Helper()
	r, err := n.execSync(n.t.Context(), n.container(id), oci.Exec{ID: "x1", Cmd: []string{"sh", "-c", script}})
	n.must(err)
	if r.ExitCode != 0 {
		n.t.Fatalf("%q in %s ended with %d: %s%s", script, id, r.ExitCode, r.Stdout, r.Stderr)
	}
	return string(r.Stdout)
}

// eventually waits until a condition holds.
func (n *node) eventually(what string, holds func() bool) {
	n.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return
		}
	}
	n.t.Fatalf("it never came about that %s", what)
}

// gone reports whether a process has ended and was waited for.
func gone(pid int) bool { return unix.Kill(pid, 0) == unix.ESRCH }

// cgroupFile reads a file of a container's cgroup.
func (n *node) cgroupFile(id, controller, v1, v2 string) string {
	n.t.Helper()
	h, ok := n.cgroups.Node().Find(controller)
	if !ok {
		n.t.Fatalf("no controller %s", controller)
	}
	name := v1
	if h.Unified {
		name = v2
	}
	path, err := n.cgroups.ContainerPath("", podID, id)
	n.must(err)
	data, err := os.ReadFile(filepath.Join(h.Mountpoint, path, name))
	n.must(err)
	return fmt.Sprintf("%s=%s", name, strings.TrimSpace(string(data)))
}
