package e2e

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/test/audit"
	"github.com/stele-runtime/stele/test/images"
)

// Options say how a daemon differs from the usual one.
type Options struct {
	// Plugins are added to the network's chain, after bridge.
	Plugins []map[string]any
	// Ranges are more subnets; each gives pods another address. The harness's own
	// subnet is 10.85.N.0/24, see Harness.Number.
	Ranges func(number int) []string
	// Image is appended to the table [image] of the configuration file, and Config, with
	// other tables, to the file.
	Image, Config string
	// Configure, if not nil, writes any files and returns the whole configuration, instead
	// of all the above.
	Configure func(h *Harness) string
	// NRI is appended to the table [nri] of the configuration file.
	NRI string
	// StorageSize, if not empty, is the size of the images' file system, as for tmpfs
	// ("64m").
	StorageSize string
	// Handlers are runtime handlers beside runc, name to path.
	Handlers map[string]string
	// LogLevel is the daemon's, "info" if empty.
	LogLevel string
	// StateIn is where the daemon's state directory is made; "/run" if empty.
	StateIn string
	// OwnBoot gives the daemon a boot of its own, which PowerFailure can end.
	OwnBoot bool
}

// Harness is a daemon with everything around it.
type Harness struct {
	// Number is unique among the harnesses of the machine.
	Number   int
	Programs *Programs
	// Registry has the daemon's images; Busybox and Tester are names in it, which are
	// pulled already.
	Registry        *images.Server
	Busybox, Tester string
	// Root and State are the daemon's directories, Logs is for pods' logs, Share for files
	// to mount into containers.
	Root, State, Logs, Share string
	// ConfDir is the CNI configuration directory.
	ConfDir string
	// Socket is the path of the CRI socket, NRISocket where NRI plug-ins connect.
	Socket, NRISocket string
	// Bridge has the address 10.85.N.1.
	Bridge string
	// CgroupParent is the pods' parent.
	CgroupParent string
	// Scope is what the daemon owns, Before what it had before the first pod.
	Scope  audit.Scope
	Before audit.Snapshot

	// Client calls the daemon, Daemon is its process.
	*Client
	Daemon *Daemon

	options Options
	serial  *atomic.Int64
}

// New starts a daemon that ends with the test.
func New(t testing.TB, programs *Programs, options Options) *Harness {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests need root")
	}
	h := &Harness{Programs: programs, options: options, serial: &atomic.Int64{}}
	number, base := claim(t)
	h.Number = number
	h.Root, h.State = filepath.Join(base, "root"), filepath.Join(cmp.Or(options.StateIn, "/run"), filepath.Base(base))
	h.Logs, h.Share, h.ConfDir = filepath.Join(base, "logs"), filepath.Join(base, "share"), filepath.Join(base, "cni")
	h.Socket, h.NRISocket = filepath.Join(h.State, "stele.sock"), filepath.Join(h.State, "nri.sock")
	h.Client = Connect(t, h.Socket)
	h.Daemon = &Daemon{t: t, client: h.Client, program: programs.Stele, process: &process{log: filepath.Join(base, "daemon.log")}}
	h.Bridge = fmt.Sprintf("stlt%d", h.Number)
	h.CgroupParent = "/" + filepath.Base(base)
	if systemdCgroups() {
		// A dash in a slice's name stands for a slice around it.
		h.CgroupParent = "/stele_e2e_" + strconv.Itoa(h.Number) + ".slice"
	}
	h.Scope = audit.Scope{
		Root: h.Root, State: h.State, Dirs: []string{base}, Bridges: []string{h.Bridge}, Networks: []string{h.Bridge},
		IPAM: []string{filepath.Join(base, "ipam")}, Cgroups: []string{h.CgroupParent},
	}
	// First in, last out: the directories go once nothing uses them.
	t.Cleanup(func() { h.wipe(base) })
	for _, dir := range []string{h.Logs, h.Share, h.ConfDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.limitStorage()
	h.Registry = images.Registry(t)
	busybox, tester := programs.images(t)
	h.Busybox, h.Tester = h.Registry.Push(t, "e2e/busybox:latest", busybox), h.Registry.Push(t, "e2e/tester:latest", tester)
	h.writeConfig(base)
	h.WriteNetwork(options.Plugins...)

	h.Daemon.args = h.arguments()
	if options.OwnBoot {
		h.Daemon.process.boot = filepath.Join(base, "boot_id")
		h.newBoot()
	}
	t.Cleanup(h.finish)
	h.Daemon.Start()
	h.Pull(h.Busybox)
	h.Pull(h.Tester)
	var err error
	if h.Before, err = audit.Take(h.Scope); err != nil {
		t.Fatal(err)
	}
	return h
}

// In returns the harness for a subtest: failures are the subtest's, and its pods are
// removed at its end.
func (h *Harness) In(t testing.TB) *Harness {
	inner := *h
	inner.Client, inner.Daemon = h.Client.in(t), h.Daemon.in(t)
	return &inner
}

// claim finds a number that no other harness on the machine has, and makes its directory
// for the daemon's persistent files.
func claim(t testing.TB) (number int, dir string) {
	t.Helper()
	for number = 1; number < 255; number++ {
		dir := fmt.Sprintf("/var/tmp/stele-e2e-%d", number)
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			return number, dir
		}
		if !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
	t.Fatal("254 other daemons are under test, or their directories were left: see /var/tmp/stele-e2e-*")
	return 0, ""
}

// arguments are the daemon's.
func (h *Harness) arguments() []string {
	args := []string{
		"serve", "--config", filepath.Join(filepath.Dir(h.Root), "config.toml"), "--root", h.Root, "--state", h.State,
		"--listen", "unix://" + h.Socket, "--cni-conf-dir", h.ConfDir,
		"--cni-plugin-dirs", strings.Join(h.Programs.PluginDirs, ","), "--monitor", h.Programs.Monitor,
		"--runtime", "runc=" + h.Programs.Runc,
	}
	for name, path := range h.options.Handlers {
		args = append(args, "--runtime", name+"="+path)
	}
	if h.options.LogLevel != "" {
		args = append(args, "--log-level", h.options.LogLevel)
	}
	return args
}

func (h *Harness) writeConfig(base string) {
	h.t.Helper()
	path := filepath.Join(base, "config.toml")
	if h.options.Configure != nil {
		h.write(path, withDriver(h.options.Configure(h)))
		return
	}
	policy := filepath.Join(base, "policy.json")
	h.write(policy, `{"default": [{"type": "insecureAcceptAnything"}]}`)
	config := fmt.Sprintf("[image]\nregistries_conf = %q\nregistries_conf_dir = %q\nsignature_policy = %q\n",
		h.Registry.RegistriesConf, h.Registry.RegistriesConfDir, policy)
	plugins := fmt.Sprintf("\n[nri]\nnri_listen = %q\n", h.NRISocket)
	h.write(path, withDriver(config+h.options.Image+"\n"+h.options.Config+plugins+h.options.NRI))
}

// withDriver adds the cgroup driver to a configuration. It is not the node's own choice, because
// the pods' cgroups have this driver's form.
func withDriver(config string) string {
	const table = "\n[runtime]\n"
	key := fmt.Sprintf("cgroup_driver = %q\n", cgroupDriver())
	if config = "\n" + config; strings.Contains(config, table) {
		return strings.Replace(config, table, table+key, 1)
	}
	return config + table + key
}

// cgroupDriver is that of the daemon under test: cgroupfs, unless the environment says systemd.
func cgroupDriver() string { return cmp.Or(os.Getenv("STELE_E2E_CGROUP_DRIVER"), "cgroupfs") }

// systemdCgroups reports whether the daemon under test has systemd make cgroups.
func systemdCgroups() bool { return cgroupDriver() == "systemd" }

// limitStorage mounts the file system of Options.StorageSize.
func (h *Harness) limitStorage() {
	h.t.Helper()
	if h.options.StorageSize == "" {
		return
	}
	if err := os.MkdirAll(h.storage(), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", h.storage(), "tmpfs", 0, "size="+h.options.StorageSize); err != nil {
		h.t.Fatalf("mount a file system for images: %v", err)
	}
}

// storage is where the daemon keeps images.
func (h *Harness) storage() string { return filepath.Join(h.Root, "storage") }

// WriteNetwork writes the CNI configuration: a bridge without masquerade, and
// the plugins after it.
func (h *Harness) WriteNetwork(plugins ...map[string]any) {
	h.t.Helper()
	type subnet map[string]any
	ranges := [][]subnet{{{"subnet": fmt.Sprintf("10.85.%d.0/24", h.Number)}}}
	if h.options.Ranges != nil {
		for _, more := range h.options.Ranges(h.Number) {
			ranges = append(ranges, []subnet{{"subnet": more}})
		}
	}
	bridge := map[string]any{
		"type": "bridge", "bridge": h.Bridge, "isDefaultGateway": true, "hairpinMode": true,
		"ipam": map[string]any{"type": "host-local", "dataDir": h.Scope.IPAM[0], "ranges": ranges},
	}
	list := map[string]any{
		"cniVersion": "1.1.0", "name": h.Bridge,
		"plugins": append([]map[string]any{bridge}, plugins...),
	}
	content, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		h.t.Fatal(err)
	}
	// Renamed, as the daemon watches the directory.
	path := filepath.Join(h.ConfDir, "10-e2e.conflist")
	h.write(path+".new", string(content))
	if err := os.Rename(path+".new", path); err != nil {
		h.t.Fatal(err)
	}
}

// Gateway is the bridge's address.
func (h *Harness) Gateway() string { return fmt.Sprintf("10.85.%d.1", h.Number) }

// Audit fails the test for every leak since the first pod.
func (h *Harness) Audit() {
	h.t.Helper()
	audit.Check(h.t, h.Scope, h.Before)
}

// finish removes all pods, looks for leaks, stops daemon and monitor, and looks again: then
// nothing at all may be left.
func (h *Harness) finish() {
	h.t.Helper()
	if !h.Daemon.process.running() {
		h.t.Errorf("the daemon is not running at the end: %v", h.Daemon.process.ended())
	} else {
		h.removePods()
		if h.Before != nil {
			audit.Check(h.t, h.Scope, h.Before)
		}
		if h.t.Failed() {
			h.tell()
		}
		h.Daemon.Stop()
		h.stopMonitor()
		if h.options.StorageSize != "" {
			if err := unix.Unmount(h.storage(), 0); err != nil {
				h.t.Errorf("unmount the file system of the images: %v", err)
			}
		}
		audit.Check(h.t, h.Scope, nil)
	}
	for _, trouble := range h.Daemon.process.trouble() {
		h.t.Errorf("the daemon reported:\n%s", trouble)
	}
}

// stopMonitor ends the monitor, which outlives the daemon, when no container runs any more.
func (h *Harness) stopMonitor() {
	h.t.Helper()
	for _, pid := range h.MonitorPIDs() {
		process, err := os.FindProcess(pid)
		if err != nil {
			h.t.Error(err)
			continue
		}
		if err := process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			h.t.Errorf("kill monitor %d: %v", pid, err)
		}
	}
}

// MonitorPIDs are the processes that run the monitor's program for this daemon.
func (h *Harness) MonitorPIDs() []int {
	h.t.Helper()
	snapshot, err := audit.Take(audit.Scope{State: h.State})
	if err != nil {
		h.t.Error(err)
	}
	var pids []int
	for trace, details := range snapshot {
		if trace.Kind != audit.Process || !strings.HasPrefix(trace.What, h.Programs.Monitor+" ") {
			continue
		}
		for _, detail := range details {
			var pid int
			if _, err := fmt.Sscanf(detail, "pid %d,", &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// wipe removes what a failed test left; normally that is the bridge, the pods' common
// cgroup parent and the directories.
func (h *Harness) wipe(base string) {
	h.t.Helper()
	h.Daemon.process.kill()
	if err := audit.Clear(h.Scope); err != nil {
		h.t.Error(err)
	}
	for _, dir := range []string{h.State, base} {
		if err := os.RemoveAll(dir); err != nil {
			h.t.Error(err)
		}
	}
}

// tell logs what is known of a failure: the daemon's log, and the history.
func (h *Harness) tell() {
	h.t.Helper()
	h.t.Logf("the daemon's log:\n%s", tail(h.Daemon.process.log, 200))
	if events, err := h.stele("events", "-o", "wide"); err == nil {
		h.t.Logf("events:\n%s", lastLines(events, 300))
	} else {
		h.t.Logf("events: %v", err)
	}
}

// Stele runs a command of the product against the daemon and returns its output.
func (h *Harness) Stele(args ...string) string {
	h.t.Helper()
	out, err := h.stele(args...)
	if err != nil {
		h.t.Fatalf("stele %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (h *Harness) stele(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if args[0] != "version" {
		args = append(args, "--listen", "unix://"+h.Socket)
	}
	cmd := exec.CommandContext(ctx, h.Programs.Stele, args...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (h *Harness) write(path, content string) {
	h.t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// Reachable dials a TCP address until somebody answers.
func (h *Harness) Reachable(address string) net.Conn {
	h.t.Helper()
	var conn net.Conn
	h.Eventually("somebody answers at "+address, func() bool {
		var err error
		conn, err = net.DialTimeout("tcp", address, time.Second)
		return err == nil
	})
	return conn
}

func tail(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return lastLines(string(content), lines)
}

func lastLines(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// PowerFailure does to a daemon with OwnBoot what one does to a node: everything in the
// kernel is gone, and the log is as it was when KeepLog returned.
func (h *Harness) PowerFailure(log map[string][]byte) {
	h.t.Helper()
	h.Daemon.Kill9()
	if err := audit.Clear(h.Scope); err != nil {
		h.t.Fatal(err)
	}
	if err := os.RemoveAll(h.State); err != nil {
		h.t.Fatal(err)
	}
	for path, content := range log {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	h.newBoot()
	h.Daemon.Start()
}

func (h *Harness) newBoot() { h.write(h.Daemon.process.boot, rand.Text()+"\n") }

// KeepLog reads the files of the event log.
func (h *Harness) KeepLog() map[string][]byte {
	h.t.Helper()
	kept := map[string][]byte{}
	for _, name := range []string{"events.db", "events.db.journal"} {
		path := filepath.Join(h.Root, name)
		content, err := os.ReadFile(path)
		if err != nil {
			h.t.Fatal(err)
		}
		kept[path] = content
	}
	return kept
}
