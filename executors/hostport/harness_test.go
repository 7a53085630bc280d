package hostport

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inNode marks the process whose network namespace plays the node.
const inNode = "STELE_TEST_HOSTPORT_NODE"

// patience bounds the wait for an answer that must come.
const patience = 20 * time.Second

// TestMain runs the tests in a process with a network namespace of its own: the node.
func TestMain(m *testing.M) {
	if os.Getenv(inNode) != "" {
		os.Exit(m.Run())
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests need root")
		os.Exit(1)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNode+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is about the thread that starts the process
	err := cmd.Run()
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// The node's addresses towards the world and its pods.
var (
	worldIP  = netip.MustParseAddr("192.0.2.1")
	worldIP6 = netip.MustParseAddr("2001:db8::1")
	bridgeIP = netip.MustParseAddr("10.9.0.1")
)

// node is the namespace of the test's process with a bridge for pods, and a world beyond it.
type node struct {
	t      *testing.T
	bridge netlink.Link
	world  space
	pods   int
}

// newNode lays the links; nothing is left of them, or of the test's tables, at its end.
func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, world: newSpace(t)}
	for path, value := range map[string]string{
		"/proc/sys/net/ipv4/ip_forward": "1", "/proc/sys/net/ipv6/conf/all/forwarding": "1",
	} {
		must(t, os.WriteFile(path, []byte(value), 0o644))
	}
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	n.bridge = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	must(t, netlink.LinkAdd(n.bridge))
	t.Cleanup(func() { must(t, netlink.LinkDel(n.bridge)) })
	up(t, n.bridge, bridgeIP.String()+"/24", "fd09::1/64")
	ext := n.link(n.world, "ext0", "192.0.2.2/24", "2001:db8::2/64")
	up(t, ext, worldIP.String()+"/24", worldIP6.String()+"/64")
	n.world.do(t, func() {
		route(t, "0.0.0.0/0", worldIP.String())
		route(t, "::/0", worldIP6.String())
	})
	return n
}

// link joins a namespace, where the interface is called eth0, and returns the node's end.
func (n *node) link(to space, name string, addresses ...string) netlink.Link {
	n.t.Helper()
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(to.Fd())),
	}
	must(n.t, netlink.LinkAdd(veth))
	n.t.Cleanup(func() { must(n.t, netlink.LinkDel(veth)) })
	to.do(n.t, func() {
		eth0, err := netlink.LinkByName("eth0")
		must(n.t, err)
		up(n.t, eth0, addresses...)
	})
	return veth
}

// driver returns the driver of a daemon, whose table goes at the test's end.
func (n *node) driver(owner string) *Driver {
	n.t.Helper()
	d := New(Config{Owner: owner, Logger: slog.New(slog.NewTextHandler(n.t.Output(), nil))})
	n.t.Cleanup(func() { dropTable(n.t, d) })
	return d
}

// dropTable does to a driver's table what a reboot does.
func dropTable(t *testing.T, d *Driver) {
	t.Helper()
	conn, err := d.open()
	must(t, err)
	conn.AddTable(d.table.Table) // then deleting it cannot fail
	conn.DelTable(d.table.Table)
	must(t, conn.Flush())
}

// mapPorts fails the test if not all ports are mapped.
func mapPorts(t *testing.T, d *Driver, p Pod) {
	t.Helper()
	if unmapped, err := d.Map(t.Context(), p); err != nil || len(unmapped) > 0 {
		t.Fatalf("map the ports of %s: %v, without %v", p.ID, err, unmapped)
	}
}

func unmap(t *testing.T, d *Driver, id string) {
	t.Helper()
	must(t, d.Unmap(t.Context(), id))
}

// testPod is a pod's namespace with servers.
type testPod struct {
	space
	Pod
}

// pod attaches a pod with an address of each family. Its servers answer on port 80, TCP and
// UDP, with its id and the client's address.
func (n *node) pod(id string, asked ...Port) *testPod {
	n.t.Helper()
	n.pods++
	p := &testPod{space: newSpace(n.t), Pod: Pod{ID: id, Ports: asked, IPs: []netip.Addr{
		bridgeIP.Next(), netip.MustParseAddr(fmt.Sprintf("fd09::%x", n.pods+1)),
	}}}
	for range n.pods - 1 {
		p.IPs[0] = p.IPs[0].Next()
	}
	veth := n.link(p.space, fmt.Sprintf("pod%d", n.pods), p.IPs[0].String()+"/24", p.IPs[1].String()+"/64")
	must(n.t, netlink.LinkSetMaster(veth, n.bridge))
	must(n.t, netlink.LinkSetUp(veth))
	// As plugins do with hairpinMode: netfilter sends what a pod sends to itself back by the
	// port that it came from.
	must(n.t, netlink.LinkSetHairpin(veth, true))
	p.do(n.t, func() {
		route(n.t, "0.0.0.0/0", bridgeIP.String())
		route(n.t, "::/0", "fd09::1")
		listener, err := net.Listen("tcp", ":80")
		must(n.t, err)
		packets, err := net.ListenPacket("udp", ":80")
		must(n.t, err)
		n.t.Cleanup(func() { _, _ = listener.Close(), packets.Close() })
		go serve(id, listener)
		go serveUDP(id, packets)
	})
	return p
}

func serve(id string, listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(conn, "%s %s\n", id, conn.RemoteAddr().(*net.TCPAddr).IP)
		_ = conn.Close()
	}
}

func serveUDP(id string, packets net.PacketConn) {
	for b := make([]byte, 1500); ; {
		_, from, err := packets.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = packets.WriteTo(fmt.Appendf(nil, "%s %s\n", id, from.(*net.UDPAddr).IP), from)
	}
}

// space is a network namespace.
type space struct{ *os.File }

func newSpace(t *testing.T) space {
	t.Helper()
	var s space
	onThread(t, func() {
		must(t, unix.Unshare(unix.CLONE_NEWNET))
		file, err := os.Open("/proc/thread-self/ns/net")
		must(t, err)
		s.File = file
		lo, err := netlink.LinkByName("lo")
		must(t, err)
		must(t, netlink.LinkSetUp(lo))
	})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// do calls f in the namespace; sockets that it opens stay there.
func (s space) do(t *testing.T, f func()) {
	t.Helper()
	onThread(t, func() {
		must(t, unix.Setns(int(s.Fd()), unix.CLONE_NEWNET))
		f()
	})
}

// onThread calls f on a thread of its own, which ends then. That is not the process's first: it
// cannot end, and /proc/self would show f's namespaces for the process's.
func onThread(t *testing.T, f func()) {
	t.Helper()
	done := make(chan bool)
	go func() {
		runtime.LockOSThread() // and never unlocks
		defer close(done)      // also if f fails the test
		if unix.Gettid() == unix.Getpid() {
			onThread(t, f)
			return
		}
		f()
	}()
	<-done
	if t.Failed() {
		t.FailNow()
	}
}

func up(t *testing.T, link netlink.Link, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		addr, err := netlink.ParseAddr(address)
		must(t, err)
		addr.Flags = unix.IFA_F_NODAD
		must(t, netlink.AddrAdd(link, addr))
	}
	must(t, netlink.LinkSetUp(link))
}

func route(t *testing.T, to, by string) {
	t.Helper()
	_, dst, err := net.ParseCIDR(to)
	must(t, err)
	must(t, netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(by)}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
}

// dial dials from the node (the zero space) or another namespace.
func dial(t *testing.T, from space, network string, to netip.AddrPort) (conn net.Conn, err error) {
	t.Helper()
	connect := func() { conn, err = net.DialTimeout(network, to.String(), patience) }
	if from.File == nil {
		connect()
	} else {
		from.do(t, connect)
	}
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

// ask returns who answers at an address, and the client's address as the server saw it.
func ask(t *testing.T, from space, network string, to netip.AddrPort) (pod, client string, err error) {
	t.Helper()
	conn, err := dial(t, from, network, to)
	if err != nil {
		return "", "", err
	}
	return answer(conn)
}

func answer(conn net.Conn) (pod, client string, err error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", "", err
	}
	if _, udp := conn.(*net.UDPConn); udp {
		if _, err := conn.Write([]byte("?")); err != nil {
			return "", "", err
		}
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", "", err
	}
	pod, client, _ = strings.Cut(strings.TrimSpace(line), " ")
	return pod, client, nil
}

func wantAnswer(t *testing.T, from space, network string, to netip.AddrPort, want string) {
	t.Helper()
	if got, _, err := ask(t, from, network, to); err != nil || got != want {
		t.Errorf("%s %s answers %q, %v, want %q", network, to, got, err, want)
	}
}

// wantRefused is for TCP ports of the node that nobody listens on.
func wantRefused(t *testing.T, from space, to netip.AddrPort) {
	t.Helper()
	if got, _, err := ask(t, from, "tcp", to); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("tcp %s answers %q, %v, want a refused connection", to, got, err)
	}
}

// held returns all that the table holds.
func held(t *testing.T, d *Driver) []element {
	t.Helper()
	all, err := d.elements()
	must(t, err)
	return all
}
