package peers

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/audit"
	"github.com/stele-runtime/stele/test/e2e"
	"github.com/stele-runtime/stele/test/images"
)

// patience is how long the daemon may take for anything.
const patience = time.Minute

// containerdDir is where `test/deps/install.sh bench` puts containerd and ctr.
const containerdDir = "/usr/lib/stele/containerd"

// containerdConfig is what differs from containerd's defaults: where its files and those of
// its runtime are, that nothing is made or listened on elsewhere (its own programs'
// directory is /opt/containerd, NRI's socket is in /run/nri), that it is content where it
// may not lower a pod's OOM score, and that it is quiet.
const containerdConfig = `version = 4
imports = []
root = "%[1]s/root"
state = "%[6]s/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]

[debug]
level = "warn"

[plugins."io.containerd.server.v1.grpc"]
address = "%[6]s/containerd.sock"

[plugins."io.containerd.server.v1.ttrpc"]
address = "%[6]s/ttrpc.sock"

[plugins."io.containerd.shim.v1.manager"]
socket_dir = "%[6]s/s"

[plugins."io.containerd.cri.v1.images"]
pinned_images = {sandbox = %[2]q}
registry = {config_path = "%[1]s/registries"}

[plugins."io.containerd.cri.v1.runtime"]
cdi_spec_dirs = []
netns_mounts_under_state_dir = true
restrict_oom_score_adj = true
cni = {bin_dirs = %[3]s, conf_dir = "%[1]s/cni"}

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
runtime_path = "%[4]s/containerd-shim-runc-v2"
options = {BinaryName = %[5]q, Root = "%[6]s/runc", SystemdCgroup = false}

[plugins."io.containerd.grpc.v1.cri"]
stream_server_address = "127.0.0.1"
stream_server_port = "0"
`

// Network is a CNI configuration as users have it: a bridge with masquerade, and host ports.
// The subnet is one of 4096 addresses ("10.1.0.0/20"), name is the network's and the bridge's.
func Network(name, dataDir, subnet string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %[1]q, "plugins": [{
	"type": "bridge", "bridge": %[1]q, "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
	"ipam": {"type": "host-local", "dataDir": %[2]q, "ranges": [[{"subnet": %[3]q}]]}
}, {"type": "portmap", "capabilities": {"portMappings": true}}]}`, name, dataDir, subnet)
}

// Options say where a daemon beside Stele has what.
type Options struct {
	// StateIn is where the directory for what does not outlive a boot is made; beside the
	// others if empty. Sockets are in it: the path must be short.
	StateIn string
	// CgroupParent is for its pods. If empty, it has one of its own.
	CgroupParent string
}

// Containerd is a daemon beside Stele.
type Containerd struct {
	// dir has the files that outlive a boot, state the others.
	dir, state string
	socket     string
	// cgroupParent is for its pods, network the name of theirs.
	cgroupParent, network string
	// abandoned: see Abandon.
	abandoned bool
}

// Abandon has the daemon's pods cleared away with it at the end, instead of removed before: hundreds
// would take minutes.
func (c *Containerd) Abandon() { c.abandoned = true }

// StartContainerd starts a daemon that ends with the test. It uses the registry,
// the runtime and the CNI plugins of the harness.
func StartContainerd(b testing.TB, h *e2e.Harness, options Options) *Containerd {
	b.Helper()
	// The disk is that of the product's store. The path is short, since a socket's is.
	dir, err := os.MkdirTemp("/var/tmp", "stele-bench-")
	if err != nil {
		b.Fatal(err)
	}
	state := filepath.Join(cmp.Or(options.StateIn, dir), "c")
	bridge := fmt.Sprintf("stlb%d", h.Number)
	c := &Containerd{
		dir: dir, state: state, socket: filepath.Join(state, "containerd.sock"),
		cgroupParent: cmp.Or(options.CgroupParent, "/"+filepath.Base(dir)), network: bridge,
	}
	scope := audit.Scope{
		State: state, Dirs: []string{dir}, Bridges: []string{bridge}, Networks: []string{bridge},
		IPAM: []string{filepath.Join(dir, "ipam")}, Cgroups: []string{c.cgroupParent},
	}
	b.Cleanup(func() {
		if err := audit.Clear(scope); err != nil {
			// What is still mounted must not be emptied.
			b.Error(err)
			return
		}
		if err := errors.Join(os.RemoveAll(state), os.RemoveAll(dir)); err != nil {
			b.Error(err)
		}
	})
	keepAway(b, cniCache)
	config := c.configure(b, h, Network(bridge, scope.IPAM[0], fmt.Sprintf("10.%d.16.0/20", 100+h.Number%100)))

	daemon := exec.Command(filepath.Join(containerdDir, "containerd"), "--config", config)
	var said bytes.Buffer
	daemon.Stdout, daemon.Stderr = &said, &said
	// The shim asks the runtime that it finds there what it can do.
	daemon.Env = append(os.Environ(), "PATH="+filepath.Dir(h.Programs.Runc)+":"+os.Getenv("PATH"))
	if err := daemon.Start(); err != nil {
		b.Fatalf("`test/deps/install.sh bench` installs containerd: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	b.Cleanup(func() {
		if c.abandoned {
			c.end(b, daemon.Process, ended)
			return
		}
		stop(b, daemon.Process, ended)
		// Only now that it has ended can it be read.
		if b.Failed() {
			b.Logf("containerd said:\n%s", said.String())
		}
		audit.Check(b, scope, nil)
	})
	c.await(b, ended)
	return c
}

// configure writes the daemon's configuration, and its network's.
func (c *Containerd) configure(b testing.TB, h *e2e.Harness, network string) (path string) {
	b.Helper()
	pause := h.Registry.Push(b, "bench/pause:latest", images.Busybox(b, v1.Config{Entrypoint: []string{"sleep", "100000"}}))
	plugins, err := json.Marshal(h.Programs.PluginDirs)
	if err != nil {
		b.Fatal(err)
	}
	path = filepath.Join(c.dir, "config.toml")
	for path, content := range map[string]string{
		path: fmt.Sprintf(containerdConfig, c.dir, pause, plugins, containerdDir, h.Programs.Runc, c.state),
		filepath.Join(c.dir, "cni", "10-bench.conflist"): network,
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			b.Fatal(err)
		}
	}
	return path
}

// await waits until the daemon answers.
func (c *Containerd) await(b testing.TB, ended chan error) {
	b.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		_, err := c.ctr(b, "version")
		if err == nil {
			return
		}
		select {
		case end := <-ended:
			ended <- end
			b.Fatalf("containerd ended at its start: %v", end)
		default:
		}
		if time.Now().After(deadline) {
			b.Fatalf("containerd does not answer: %v", err)
		}
	}
}

// cniCache is where containerd keeps what CNI plugins answered; it cannot be set.
const cniCache = "/var/lib/cni"

// keepAway removes at the end the directories of a path that are not there now.
func keepAway(b testing.TB, path string) {
	b.Helper()
	if _, err := os.Lstat(path); err == nil {
		return
	}
	b.Cleanup(func() {
		for _, dir := range []string{filepath.Join(path, "results"), path} {
			// Another's files are not removed.
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				b.Error(err)
			}
		}
	})
}

// AsHarness returns the harness with containerd in place of Stele, so that both run the
// same pods of the Busybox image.
func (c *Containerd) AsHarness(b testing.TB, h *e2e.Harness) *e2e.Harness {
	b.Helper()
	peer := *h
	peer.Client, peer.Daemon, peer.Socket, peer.CgroupParent = e2e.Connect(b, c.socket), nil, c.socket, c.cgroupParent
	peer.Eventually("containerd is ready", func() bool {
		answer, err := peer.Runtime.Status(peer.Context(), &runtimeapi.StatusRequest{})
		return err == nil && !slices.ContainsFunc(answer.Status.Conditions, func(c *runtimeapi.RuntimeCondition) bool {
			return !c.Status && (c.Type == runtimeapi.RuntimeReady || c.Type == runtimeapi.NetworkReady)
		})
	})
	peer.Pull(peer.Busybox)
	return &peer
}

// PIDs are the daemon's and its shims'.
func (c *Containerd) PIDs(b testing.TB) (pids []int) {
	b.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		b.Fatal(err)
	}
	for _, line := range lines {
		// Who ends meanwhile has none.
		content, err := os.ReadFile(line)
		if err != nil || !bytes.Contains(content, []byte(c.dir+"/")) && !bytes.Contains(content, []byte(c.state+"/")) || !bytes.HasPrefix(content, []byte(containerdDir)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(line)))
		if err != nil {
			b.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// end ends a daemon that has pods, and removes what is known of their networks elsewhere.
func (c *Containerd) end(b testing.TB, daemon *os.Process, ended <-chan error) {
	b.Helper()
	if err := daemon.Kill(); err != nil {
		b.Error(err)
	}
	<-ended
	const ours, loopback = "-eth0", "cni-loopback-%s-lo"
	prefix := filepath.Join(cniCache, "results", c.network+"-")
	results, err := filepath.Glob(prefix + "*" + ours)
	for _, result := range results {
		pod := strings.TrimSuffix(strings.TrimPrefix(result, prefix), ours)
		err = errors.Join(err, os.Remove(result), os.Remove(filepath.Join(filepath.Dir(result), fmt.Sprintf(loopback, pod))))
	}
	if err != nil {
		b.Error(err)
	}
}

// stop ends a daemon as systemd would.
func stop(b testing.TB, daemon *os.Process, ended <-chan error) {
	b.Helper()
	if err := daemon.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		b.Errorf("stop containerd: %v", err)
	}
	select {
	case err := <-ended:
		if err != nil {
			b.Errorf("containerd ended with %v", err)
		}
	case <-time.After(patience):
		b.Error("containerd does not end at SIGTERM")
		if err := daemon.Kill(); err != nil {
			b.Error(err)
		}
		<-ended
	}
}

// ctr runs a command of containerd's own client, and returns what it says on its
// standard output: warnings about the machine are on the other one.
func (c *Containerd) ctr(b testing.TB, args ...string) (out []byte, err error) {
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(containerdDir, "ctr"),
		append([]string{"--address", c.socket, "--namespace", "bench"}, args...)...)
	var said bytes.Buffer
	command.Stderr = &said
	if out, err = command.Output(); err != nil {
		return nil, fmt.Errorf("ctr %s: %w: %s", args[0], err, said.Bytes())
	}
	return out, nil
}

// Pull has the daemon fetch and unpack an image.
func (c *Containerd) Pull(b *testing.B, name string, timed func(func() error)) (undo func()) {
	b.Helper()
	timed(func() error {
		_, err := c.ctr(b, "images", "pull", "--plain-http", "--snapshotter", "overlayfs", name)
		return err
	})
	// It would also be content with the layers as they came.
	if c.snapshots(b) == 0 {
		b.Fatalf("containerd pulled %s without unpacking it", name)
	}
	return func() {
		b.Helper()
		// Synchronously: what the image alone needed is collected when this returns.
		if _, err := c.ctr(b, "images", "rm", "--sync", name); err != nil {
			b.Fatal(err)
		}
		if n := c.snapshots(b); n > 0 {
			b.Fatalf("containerd kept %d snapshots of %s", n, name)
		}
	}
}

// snapshots is how many there are.
func (c *Containerd) snapshots(b testing.TB) int {
	b.Helper()
	out, err := c.ctr(b, "snapshots", "--snapshotter", "overlayfs", "ls")
	if err != nil {
		b.Fatal(err)
	}
	// The first line has the columns' names.
	return bytes.Count(out, []byte("\n")) - 1
}
