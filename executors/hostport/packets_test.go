package hostport

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Whoever reaches the node's addresses reaches the pod's port.
func TestReached(t *testing.T) {
	n := newNode(t)
	d := n.driver("/root")
	p := n.pod("pod", Port{8080, 80, TCP, netip.Addr{}}, Port{8080, 80, UDP, netip.Addr{}})
	other := n.pod("other", Port{8081, 80, TCP, netip.Addr{}})
	mapPorts(t, d, p.Pod)
	mapPorts(t, d, other.Pod)
	loopback := netip.MustParseAddr("127.0.0.1")
	for name, test := range map[string]struct {
		from   space
		to     netip.Addr
		client string // as the pod sees it; any if empty
	}{
		"from the world":               {n.world, worldIP, "192.0.2.2"},
		"from the world, IPv6":         {n.world, worldIP6, "2001:db8::2"},
		"from the node":                {space{}, worldIP, worldIP.String()},
		"from the node, IPv6":          {space{}, worldIP6, worldIP6.String()},
		"from the node by its bridge":  {space{}, bridgeIP, bridgeIP.String()},
		"from the node, loopback":      {space{}, loopback, bridgeIP.String()},
		"from the node, 127.0.0.2":     {space{}, loopback.Next(), bridgeIP.String()},
		"from the pod itself":          {p.space, worldIP, ""},
		"from the pod itself, bridge":  {p.space, bridgeIP, ""},
		"from the pod itself, IPv6":    {p.space, worldIP6, ""},
		"from the world, by the other": {n.world, bridgeIP, "192.0.2.2"},
	} {
		for _, network := range []string{"tcp", "udp"} {
			t.Run(name+", "+network, func(t *testing.T) {
				pod, client, err := ask(t, test.from, network, netip.AddrPortFrom(test.to, 8080))
				if err != nil || pod != "pod" || test.client != "" && client != test.client {
					t.Errorf("%q answered to %q, %v, want pod and %q", pod, client, err, test.client)
				}
			})
		}
	}
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP, 8081), "other")
	wantRefused(t, space{}, netip.AddrPortFrom(netip.IPv6Loopback(), 8080)) // at once
	unmap(t, d, "pod")
	wantRefused(t, n.world, netip.AddrPortFrom(worldIP, 8080))
	wantRefused(t, space{}, netip.AddrPortFrom(loopback, 8080))
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP6, 8081), "other")
}

// A port with an address of the node is mapped there alone.
func TestHostIP(t *testing.T) {
	n := newNode(t)
	d := n.driver("/root")
	loopback := netip.MustParseAddr("127.0.0.1")
	onWorld, onLoopback, everywhere, on6 := n.pod("world", Port{8080, 80, TCP, worldIP}), n.pod("loopback", Port{8080, 80, TCP, loopback}),
		n.pod("everywhere", Port{8080, 80, TCP, netip.IPv4Unspecified()}), n.pod("on6", Port{8080, 80, TCP, worldIP6})
	mapped := netip.AddrFrom16(worldIP.As16())
	asMapped := n.pod("mapped", Port{8082, 80, TCP, mapped})
	for _, p := range []*testPod{onWorld, onLoopback, on6, asMapped} {
		mapPorts(t, d, p.Pod)
	}
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP, 8080), "world")
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP6, 8080), "on6")
	wantAnswer(t, space{}, "tcp", netip.AddrPortFrom(loopback, 8080), "loopback")
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP, 8082), "mapped")
	// Kubernetes' conformance test dials 127.0.0.1 from another address of the node.
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: worldIP.AsSlice()}, Timeout: patience}
	conn, err := from.DialContext(t.Context(), "tcp", "127.0.0.1:8080")
	must(t, err)
	defer conn.Close()
	if got, _, err := answer(conn); err != nil || got != "loopback" {
		t.Errorf("127.0.0.1 from %s answers %q, %v", worldIP, got, err)
	}
	wantRefused(t, n.world, netip.AddrPortFrom(bridgeIP, 8080))
	wantRefused(t, space{}, netip.AddrPortFrom(loopback.Next(), 8080))
	// All of IPv4 is not all.
	mapPorts(t, d, everywhere.Pod)
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(bridgeIP, 8080), "everywhere")
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP, 8080), "world")
	unmap(t, d, "on6")
	wantRefused(t, n.world, netip.AddrPortFrom(worldIP6, 8080))
}

// What cannot be mapped is reported, and the rest is mapped.
func TestUnmapped(t *testing.T) {
	n := newNode(t)
	d := n.driver("/root")
	all, on6, onLoopback6 := Port{8080, 80, TCP, netip.Addr{}}, Port{8081, 80, TCP, netip.IPv6Unspecified()}, Port{8082, 80, TCP, netip.IPv6Loopback()}
	p := n.pod("pod", all, on6, onLoopback6)
	unmapped, err := d.Map(t.Context(), p.Pod)
	if err != nil || !slices.Equal(unmapped, []Port{onLoopback6}) {
		t.Errorf("not mapped: %v, %v", unmapped, err)
	}
	p.IPs = p.IPs[:1]
	unmapped, err = d.Map(t.Context(), p.Pod)
	if err != nil || !slices.Equal(unmapped, []Port{on6, onLoopback6}) {
		t.Errorf("not mapped: %v, %v", unmapped, err)
	}
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP, 8080), "pod")
	// A pod without any address; what it had is gone.
	p.IPs = nil
	unmapped, err = d.Map(t.Context(), p.Pod)
	if err != nil || !slices.Equal(unmapped, p.Ports) {
		t.Errorf("not mapped: %v, %v", unmapped, err)
	}
	if left := held(t, d); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// A flow that was there before the mapping, or that went to a pod that is gone, goes to the
// pod that has the port now.
func TestUDPFlows(t *testing.T) {
	n := newNode(t)
	d := n.driver("/root")
	port := Port{5353, 80, UDP, worldIP}
	first, second := n.pod("first", port), n.pod("second", port)
	flow, err := dial(t, n.world, "udp", netip.AddrPortFrom(worldIP, 5353))
	must(t, err)
	neighbour, err := dial(t, n.world, "udp", netip.AddrPortFrom(bridgeIP, 5353))
	must(t, err)
	for _, conn := range []net.Conn{flow, neighbour} {
		if _, _, err := answer(conn); !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatalf("before the mapping: %v", err)
		}
	}
	for _, p := range []*testPod{first, second} {
		mapPorts(t, d, p.Pod)
		if got, _, err := answer(flow); err != nil || got != p.ID {
			t.Errorf("%q answers, %v, want %s", got, err, p.ID)
		}
		unmap(t, d, p.ID)
	}
}

// The node's services on 127.0.0.1 stay out of the reach of its neighbours, although the
// way from 127.0.0.1 to pods is open (CVE-2020-8558).
func TestGuard(t *testing.T) {
	n := newNode(t)
	d := n.driver("/root")
	p := n.pod("pod", Port{8080, 80, TCP, netip.Addr{}})
	mapPorts(t, d, p.Pod)
	loopback := netip.MustParseAddr("127.0.0.1")
	wantAnswer(t, space{}, "tcp", netip.AddrPortFrom(loopback, 8080), "pod") // it is open
	service, err := net.ListenPacket("udp4", ":9999")
	must(t, err)
	defer service.Close()
	bridge, err := netlink.LinkByName("br0")
	must(t, err)
	for _, smuggled := range []struct{ from, to netip.Addr }{{p.IPs[0], loopback}, {loopback.Next(), bridgeIP}} {
		p.do(t, func() {
			sendFrame(t, bridge.Attrs().HardwareAddr, datagram(smuggled.from, smuggled.to, UDP, udp(9999, "smuggled")))
			sendFrame(t, bridge.Attrs().HardwareAddr, datagram(p.IPs[0], bridgeIP, UDP, udp(9999, "allowed")))
		})
		b := make([]byte, 100)
		must(t, service.SetReadDeadline(time.Now().Add(patience)))
		if size, from, err := service.ReadFrom(b); err != nil || string(b[:size]) != "allowed" {
			t.Errorf("%s to %s: the node's service read %q from %v, %v", smuggled.from, smuggled.to, b[:size], from, err)
		}
	}
}

// The kernel here has no SCTP sockets: an INIT chunk is seen by a raw socket of the pod.
func TestSCTP(t *testing.T) {
	n := newNode(t)
	d := n.driver("/root")
	p := n.pod("pod", Port{8080, 3868, SCTP, netip.Addr{}})
	mapPorts(t, d, p.Pod)
	var raw net.PacketConn
	p.do(t, func() {
		var err error
		raw, err = net.ListenPacket("ip4:132", "0.0.0.0")
		must(t, err)
	})
	defer raw.Close()
	ext, err := netlink.LinkByName("ext0")
	must(t, err)
	n.world.do(t, func() {
		sendFrame(t, ext.Attrs().HardwareAddr, datagram(netip.MustParseAddr("192.0.2.2"), worldIP, SCTP, sctpInit(8080)))
	})
	b := make([]byte, 1500)
	must(t, raw.SetReadDeadline(time.Now().Add(patience)))
	size, _, err := raw.ReadFrom(b)
	if err != nil || size < 4 || binary.BigEndian.Uint16(b[2:]) != 3868 {
		t.Errorf("the pod read % x, %v, want destination port 3868", b[:size], err)
	}
}

// sendFrame sends an IPv4 packet by eth0 to a neighbour, past the sender's own routes.
func sendFrame(t *testing.T, to net.HardwareAddr, packet []byte) {
	t.Helper()
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer func() { must(t, unix.Close(fd)) }()
	address := &unix.SockaddrLinklayer{Protocol: 0x0008, Ifindex: eth0.Attrs().Index, Halen: uint8(len(to))} // ETH_P_IP, big-endian
	copy(address.Addr[:], to)
	must(t, unix.Sendto(fd, packet, 0, address))
}

func datagram(from, to netip.Addr, protocol Protocol, payload []byte) []byte {
	header := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, byte(protocol), 0, 0}
	header = append(append(header, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(header[2:], uint16(len(header)+len(payload)))
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	binary.BigEndian.PutUint16(header[10:], ^uint16(sum+sum>>16))
	return append(header, payload...)
}

// udp is a datagram without a checksum.
func udp(port uint16, text string) []byte {
	header := []byte{0x30, 0x39, byte(port >> 8), byte(port), 0, byte(8 + len(text)), 0, 0}
	return append(header, text...)
}

func sctpInit(port uint16) []byte {
	packet := []byte{
		0x30, 0x39, byte(port >> 8), byte(port), 0, 0, 0, 0, 0, 0, 0, 0, // ports, no tag, checksum
		1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, // INIT, tag 1, a window, a stream each way
	}
	binary.LittleEndian.PutUint32(packet[8:], crc32.Checksum(packet, crc32.MakeTable(crc32.Castagnoli)))
	return packet
}
