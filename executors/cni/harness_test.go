package cni

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/namespaces"
	"github.com/stele-runtime/stele/test/audit"
)

// patience bounds the wait for what takes as long as the machine needs.
const patience = time.Minute

// testNet is a network of a test's own: a bridge, its subnets, the addresses that
// are given away, and a Driver that attaches pods to it.
type testNet struct {
	t *testing.T
	*Driver
	name, bridge     string
	v4, v6           netip.Prefix
	conf, cache, bin string
	ipam             string
	reloads          chan reloaded
}

// reloaded is one call of OnReload.
type reloaded struct {
	network Network
	err     error
}

// setup are the ways in which tests' networks differ.
type setup struct {
	version   string // CNI version, 1.0.0 if empty
	first     string // the plugin that takes the place of bridge
	dualStack bool
	more      []map[string]any // plugins that follow
}

// newNet makes a network, of which nothing is left when the test ends.
func newNet(t *testing.T, s setup) *testNet {
	t.Helper()
	random := randomHex(2)
	dir := t.TempDir()
	n := &testNet{
		t: t, name: "stele-t" + random, bridge: "stele-t" + random,
		conf: filepath.Join(dir, "net.d"), cache: filepath.Join(dir, "cache"),
		bin: filepath.Join(dir, "bin"), ipam: filepath.Join(dir, "ipam"), reloads: make(chan reloaded, 100),
	}
	n.v4, n.v6 = freeSubnets(t)
	for _, dir := range []string{n.conf, n.bin} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		audit.Check(t, audit.Scope{Root: n.cache, Bridges: []string{n.bridge}, IPAM: []string{n.ipam}}, nil)
		if link, err := netlink.LinkByName(n.bridge); err == nil {
			if err := netlink.LinkDel(link); err != nil {
				t.Error(err)
			}
		}
	})
	n.configure("10-test.conflist", n.list(s))
	n.start()
	t.Cleanup(n.stop)
	return n
}

// stop closes the Driver, of which no goroutine may be left.
func (n *testNet) stop() {
	n.t.Helper()
	n.Close()
	eventually(n.t, "all goroutines ended", func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return !bytes.Contains(stacks, []byte("fsnotify.")) && !bytes.Contains(stacks, []byte("cni.(*Driver)"))
	})
}

// restart replaces the Driver by another, as a restart of the daemon does.
func (n *testNet) restart() {
	n.t.Helper()
	n.stop()
	n.start()
}

// start makes a Driver, as a daemon does at its start.
func (n *testNet) start() {
	n.t.Helper()
	driver, err := New(Config{
		ConfDir: n.conf, PluginDirs: append([]string{n.bin}, pluginDirs()...), CacheDir: n.cache, Logger: slog.New(slog.DiscardHandler),
		OnReload: func(network Network, err error) { n.reloads <- reloaded{network, err} },
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.Driver = driver
	if first := <-n.reloads; first.err == nil && first.network.Name != n.name {
		n.t.Fatalf("the first network is %q", first.network.Name)
	}
}

func (n *testNet) list(s setup) map[string]any {
	if s.version == "" {
		s.version = "1.0.0"
	}
	if s.first == "" {
		s.first = "bridge"
	}
	ranges := [][]map[string]string{{{"subnet": n.v4.String()}}}
	routes := []map[string]string{{"dst": "0.0.0.0/0"}}
	if s.dualStack {
		ranges = append(ranges, []map[string]string{{"subnet": n.v6.String()}})
		routes = append(routes, map[string]string{"dst": "::/0"})
	}
	plugins := []map[string]any{{
		"type": s.first, "bridge": n.bridge, "isGateway": true,
		"ipam": map[string]any{"type": "host-local", "dataDir": n.ipam, "ranges": ranges, "routes": routes},
	}}
	return map[string]any{"cniVersion": s.version, "name": n.name, "plugins": append(plugins, s.more...)}
}

// configure writes a configuration file as careful programs do: all at once.
func (n *testNet) configure(file string, content any) {
	n.t.Helper()
	b, ok := content.([]byte)
	if !ok {
		var err error
		if b, err = json.Marshal(content); err != nil {
			n.t.Fatal(err)
		}
	}
	path := filepath.Join(n.conf, file)
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		n.t.Fatal(err)
	}
}

// pod returns a pod with a network namespace that ends with the test.
func (n *testNet) pod(name string) Pod {
	n.t.Helper()
	dir := filepath.Join(n.t.TempDir(), "ns")
	if err := namespaces.Pin(n.t.Context(), namespaces.Request{Dir: dir, Network: true}); err != nil {
		n.t.Fatal(err)
	}
	p := Pod{ID: randomHex(32), Name: name, Namespace: "default", UID: "uid-" + name, NetNS: filepath.Join(dir, "net")}
	n.t.Cleanup(func() {
		removeNamespace(n.t, p)
		eventually(n.t, "no plugin of the pod is left", func() bool { return len(pluginsOf(n.t, p.ID)) == 0 })
	})
	return p
}

func removeNamespace(t *testing.T, p Pod) {
	t.Helper()
	// The test's own context may have ended by now.
	if err := namespaces.Unpin(withoutCancel(t), filepath.Dir(p.NetNS)); err != nil {
		t.Error(err)
	}
}

func (n *testNet) attach(p Pod) Attachment {
	n.t.Helper()
	a, err := n.Attach(n.t.Context(), p)
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

func (n *testNet) detach(p Pod) {
	n.t.Helper()
	if err := n.Detach(n.t.Context(), p); err != nil {
		n.t.Fatal(err)
	}
}

// taken returns the addresses that are given away, each with its owner's id.
func (n *testNet) taken() map[string]string {
	n.t.Helper()
	files, err := filepath.Glob(filepath.Join(n.ipam, n.name, "*[.:]*"))
	if err != nil {
		n.t.Fatal(err)
	}
	taken := map[string]string{}
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), "last_reserved_ip") {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			n.t.Fatal(err)
		}
		taken[filepath.Base(file)] = strings.Fields(string(b))[0]
	}
	return taken
}

func (n *testNet) wantTaken(want map[string]string) {
	n.t.Helper()
	if got := n.taken(); fmt.Sprint(got) != fmt.Sprint(want) {
		n.t.Errorf("addresses given away: %v, want %v", got, want)
	}
}

func (n *testNet) wantRecord(p Pod, want bool) {
	n.t.Helper()
	_, err := os.Stat(n.recordPath(p.ID))
	if got := err == nil; got != want {
		n.t.Errorf("there is a record of the attachment: %t, want %t", got, want)
	}
}

// wantReload waits until the driver has reported a network (or none, if name is
// empty) and returns why there is none.
func (n *testNet) wantReload(name string) error {
	n.t.Helper()
	for {
		select {
		case r := <-n.reloads:
			if r.network.Name == name && (r.err == nil) == (name != "") {
				return r.err
			}
		case <-time.After(patience):
			n.t.Fatalf("no reload with the network %q", name)
		}
	}
}

// addresses are those of the pod's interface, as the pod sees them.
func addresses(t *testing.T, p Pod) string {
	t.Helper()
	out, err := exec.Command("nsenter", "--net="+p.NetNS, "ip", "-o", "addr", "show", "scope", "global").CombinedOutput()
	if err != nil {
		t.Fatalf("addresses of %s: %v: %s", p.NetNS, err, out)
	}
	return string(out)
}

// listenIn listens in a pod's network namespace.
func listenIn(t *testing.T, p Pod, address string) net.Listener {
	t.Helper()
	type opened struct {
		net.Listener
		error
	}
	done := make(chan opened)
	var open func()
	open = func() {
		runtime.LockOSThread() // and never unlocks: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			go open() // for the process's first thread cannot end
			return
		}
		var o opened
		defer func() { done <- o }()
		ns, err := os.Open(p.NetNS)
		if err != nil {
			o.error = err
			return
		}
		defer ns.Close()
		if o.error = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); o.error == nil {
			o.Listener, o.error = net.Listen("tcp", address)
		}
	}
	go open()
	o := <-done
	if o.error != nil {
		t.Fatal(o.error)
	}
	t.Cleanup(func() { _ = o.Listener.Close() })
	return o.Listener
}

// freeSubnets returns subnets that no interface of the node has an address in.
func freeSubnets(t *testing.T) (v4, v6 netip.Prefix) {
	t.Helper()
	used, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		x := mathrand.IntN(256)
		v4 = netip.MustParsePrefix(fmt.Sprintf("10.88.%d.0/24", x))
		free := true
		for _, addr := range used {
			prefix, err := netip.ParsePrefix(addr.String())
			free = free && (err != nil || !prefix.Overlaps(v4))
		}
		if free {
			return v4, netip.MustParsePrefix(fmt.Sprintf("fd88:%s:%x::/64", randomHex(2), x))
		}
	}
	t.Fatal("no subnet is free")
	return v4, v6
}

// pluginDirs is where the tests look for the real plugins.
func pluginDirs() []string {
	var dirs []string
	for _, dir := range []string{os.Getenv("STELE_CNI_BIN"), "/opt/cni/bin", "/usr/lib/cni"} {
		if dir != "" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func realPlugin(t *testing.T, name string) string {
	t.Helper()
	path, err := executor{}.FindInPath(name, pluginDirs())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func pluginsOf(t *testing.T, id string) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && worksFor(pid, id) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// eventually waits for what must come, however slow the machine is.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !soon(ok) {
		t.Fatalf("never: %s", what)
	}
}

// soon waits until ok; false if patience ran out.
func soon(ok func() bool) bool {
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
