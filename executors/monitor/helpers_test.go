package monitor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stele-runtime/stele/executors/monitor"
)

// patience bounds how long a test waits for what must happen.
const patience = 2 * time.Minute

// node is a state directory with a monitor and its containers.
type node struct {
	t      testing.TB
	dir    string
	rootfs string
	config monitor.Config
	client *monitor.Client
	// disks are mounted by smallDisk.
	disks []string

	mu      sync.Mutex
	lost    []error
	started []int
}

// newNode starts a monitor, after prepare, and cleans up at the end of the test.
func newNode(t testing.TB, prepare ...func(*node)) *node {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("the monitor's tests run containers and need root")
	}
	if tools.runc == "" || tools.busybox == "" {
		t.Fatalf("the monitor's tests need runc (found %q) and a static busybox (found %q)", tools.runc, tools.busybox)
	}
	// Short, since a socket's path is.
	dir, err := os.MkdirTemp("", "mon")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, dir: dir, rootfs: filepath.Join(dir, "rootfs")}
	n.makeRootfs()
	var said bytes.Buffer
	n.config = monitor.Config{
		Binary:   filepath.Join(dir, "stele-monitor"),
		StateDir: filepath.Join(dir, "state"),
		Build:    "test",
		Logger:   slog.New(slog.NewTextHandler(&said, nil)),
		OnLost: func(reason error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.lost = append(n.lost, reason)
		},
		OnStarted: func(pid int, _ string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.started = append(n.started, pid)
		},
	}
	if err := os.Symlink(tools.monitor, n.config.Binary); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.end)
	for _, f := range prepare {
		f(n)
	}
	n.connect()
	return n
}

func (n *node) connect() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := monitor.Start(ctx, n.config)
	if err != nil {
		n.t.Fatal(err)
	}
	n.client = client
}

// end deletes the containers and shuts the monitor down.
func (n *node) end() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	containers, err := n.client.List(ctx)
	if errors.Is(err, monitor.ErrClosed) {
		// The test failed while its client was closed.
		n.connect()
		containers, err = n.client.List(ctx)
	}
	if err != nil {
		n.t.Errorf("list containers at the end: %v", err)
	}
	for _, c := range containers {
		n.delete(c.ID)
	}
	// Deleting hundreds takes a while.
	ctx, cancel = context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.client.Shutdown(ctx); err != nil {
		n.t.Errorf("shut the monitor down: %v", err)
	}
	n.client.Close()
	log, _ := os.ReadFile(filepath.Join(n.config.StateDir, "monitor", "monitor.log"))
	if bytes.Contains(log, []byte("DATA RACE")) || bytes.Contains(log, []byte("goroutine ")) {
		n.t.Error("the monitor has a data race, or panicked")
	}
	if n.t.Failed() {
		n.t.Logf("the monitor's log:\n%s", log)
	}
	n.removeCgroups()
	for _, dir := range n.disks {
		// The monitor has answered and may still run.
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			n.t.Errorf("unmount a small disk: %v", err)
		}
	}
	if err := os.RemoveAll(n.dir); err != nil {
		n.t.Errorf("remove the node's directory: %v", err)
	}
}

// removeCgroups removes the parent of the containers' cgroups in every hierarchy. The
// runtime removes the cgroups themselves.
func (n *node) removeCgroups() {
	for _, pattern := range []string{"/sys/fs/cgroup/*" + n.cgroup(), "/sys/fs/cgroup" + n.cgroup()} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
				n.t.Errorf("a cgroup is left: %v", err)
			}
		}
	}
}

func (n *node) cgroup() string { return "/stele-" + filepath.Base(n.dir) }

func (n *node) makeRootfs() {
	n.t.Helper()
	bin := filepath.Join(n.rootfs, "bin")
	for _, dir := range []string{bin, filepath.Join(n.rootfs, "proc"), filepath.Join(n.rootfs, "dev"), filepath.Join(n.rootfs, "tmp")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			n.t.Fatal(err)
		}
	}
	data, err := os.ReadFile(tools.busybox)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "busybox"), data, 0o755); err != nil {
		n.t.Fatal(err)
	}
	for _, applet := range []string{"sh", "sleep", "cat", "true", "seq", "head", "tr", "dd", "yes", "kill", "setsid", "tail", "printf", "stty"} {
		if err := os.Symlink("busybox", filepath.Join(bin, applet)); err != nil {
			n.t.Fatal(err)
		}
	}
}

// container is one that a test asks for.
type container struct {
	id     string
	script string
	// memory is a limit in bytes; 0 for none.
	memory int64
	// hostPID is a container without a PID namespace: its end leaves others behind.
	hostPID bool
	// change may be nil.
	change func(*monitor.CreateRequest)
}

func (n *node) bundle(id string) string { return filepath.Join(n.dir, "bundles", id) }
func (n *node) log(id string) string    { return filepath.Join(n.dir, "logs", id, "0.log") }

// request prepares a bundle and returns the request to create it.
func (n *node) request(c container) monitor.CreateRequest {
	n.t.Helper()
	bundle := n.bundle(c.id)
	if err := os.MkdirAll(bundle, 0o755); err != nil {
		n.t.Fatal(err)
	}
	spec := specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{Args: []string{"sh", "-c", c.script}, Env: []string{"PATH=/bin"}, Cwd: "/"},
		Root:    &specs.Root{Path: n.rootfs, Readonly: true},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666"}},
			{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"},
		},
		Linux: &specs.Linux{
			CgroupsPath: n.cgroup() + "/" + c.id,
			Namespaces:  []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}},
			Resources:   &specs.LinuxResources{},
		},
	}
	if c.hostPID {
		spec.Linux.Namespaces = spec.Linux.Namespaces[1:]
	}
	if c.memory > 0 {
		spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &c.memory, Swap: &c.memory}
	}
	n.writeJSON(filepath.Join(bundle, "config.json"), spec)
	pidFile := filepath.Join(bundle, "pid")
	r := monitor.CreateRequest{
		ContainerID: c.id,
		Runtime:     tools.runc,
		Args:        n.args(c.id, "create", "--bundle", bundle, "--pid-file", pidFile, c.id),
		PidFile:     pidFile,
		Bundle:      bundle,
		LogPath:     n.log(c.id),
		Deadline:    patience,
	}
	if c.change != nil {
		c.change(&r)
	}
	return r
}

func (n *node) writeJSON(path string, value any) {
	n.t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// args puts the runtime's global arguments before those of a command.
func (n *node) args(id string, command ...string) []string {
	log := filepath.Join(n.bundle(id), command[0]+".log")
	return append([]string{"--root", filepath.Join(n.dir, "runc"), "--log", log, "--log-format", "json"}, command...)
}

// create creates a container.
func (n *node) create(c container) monitor.Process {
	n.t.Helper()
	process, err := n.client.Create(context.Background(), n.request(c))
	if err != nil {
		n.t.Fatalf("create %s: %v", c.id, err)
	}
	return process
}

// run creates and starts a container.
func (n *node) run(c container) monitor.Process {
	n.t.Helper()
	process := n.create(c)
	n.start(c.id)
	return process
}

func (n *node) start(id string) {
	n.t.Helper()
	if out, err := exec.Command(tools.runc, n.args(id, "start", id)...).CombinedOutput(); err != nil {
		n.t.Fatalf("start %s: %v\n%s", id, err, out)
	}
}

// delete deletes a container by force and forgets it.
func (n *node) delete(id string) {
	n.t.Helper()
	if out, err := exec.Command(tools.runc, n.args(id, "delete", "--force", id)...).CombinedOutput(); err != nil {
		n.t.Errorf("delete %s: %v\n%s", id, err, out)
	}
	if err := n.client.Forget(context.Background(), id); err != nil {
		n.t.Errorf("forget %s: %v", id, err)
	}
}

// exits collects exits until it has those of all ids, and returns them by id. An exit
// that arrives twice, or out of order, is an error.
func (n *node) exits(after uint64, ids ...string) map[string]monitor.Exit {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	missing := map[string]bool{}
	for _, id := range ids {
		missing[id] = true
	}
	found := map[string]monitor.Exit{}
	if len(missing) == 0 {
		return found
	}
	for e := range n.client.Exits(ctx, after) {
		if e.Seq <= after {
			n.t.Errorf("exit %d of %s came after exit %d", e.Seq, e.ContainerID, after)
		}
		after = e.Seq
		if _, ok := found[e.ContainerID]; ok {
			n.t.Errorf("the exit of %s came twice", e.ContainerID)
		}
		found[e.ContainerID] = e
		if delete(missing, e.ContainerID); len(missing) == 0 {
			return found
		}
	}
	n.t.Fatalf("no exit of %v", missing)
	return nil
}

// record is a line of a CRI log.
type record struct {
	time    time.Time
	stream  string
	full    bool
	content string
}

// records parses a log and fails if a line isn't a record.
func (n *node) records(paths ...string) []record {
	n.t.Helper()
	var all []record
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			n.t.Fatal(err)
		}
		if len(data) > 0 && data[len(data)-1] != '\n' {
			n.t.Fatalf("%s doesn't end with a newline", path)
		}
		for line := range strings.Lines(string(data)) {
			r, err := parseRecord(strings.TrimSuffix(line, "\n"))
			if err != nil {
				n.t.Fatalf("%s: %v", path, err)
			}
			all = append(all, r)
		}
	}
	return all
}

// logged returns how many records a container's log has by now. Unlike records it bears a
// record that is being written.
func (n *node) logged(id string) int {
	n.t.Helper()
	data, err := os.ReadFile(n.log(id))
	if err != nil {
		n.t.Fatal(err)
	}
	return bytes.Count(data, []byte("\n"))
}

func parseRecord(line string) (record, error) {
	fields := strings.SplitN(line, " ", 4)
	if len(fields) != 4 {
		return record{}, fmt.Errorf("%.80q has %d fields", line, len(fields))
	}
	when, err := time.Parse(time.RFC3339Nano, fields[0])
	if err != nil {
		return record{}, err
	}
	if fields[1] != "stdout" && fields[1] != "stderr" || fields[2] != "P" && fields[2] != "F" {
		return record{}, fmt.Errorf("%.80q has an unknown stream or tag", line)
	}
	return record{time: when, stream: fields[1], full: fields[2] == "F", content: fields[3]}, nil
}

// lines reassembles the lines of a stream.
func lines(records []record, stream string) []string {
	var all []string
	var line strings.Builder
	for _, r := range records {
		if r.stream != stream {
			continue
		}
		line.WriteString(r.content)
		if r.full {
			all = append(all, line.String())
			line.Reset()
		}
	}
	if line.Len() > 0 {
		all = append(all, line.String()) // the end of the output, without a newline
	}
	return all
}

// eventually waits until a condition holds.
func (n *node) eventually(what string, holds func() bool) {
	n.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return
		}
	}
	n.t.Fatalf("it never happened that %s", what)
}

// ended reports whether a process has ended.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

// gone reports whether a process has ended and was reaped.
func gone(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return errors.Is(err, os.ErrNotExist)
}

// touch makes a file in the root of the containers.
func (n *node) touch(name string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.rootfs, name), nil, 0o644); err != nil {
		n.t.Fatal(err)
	}
}
