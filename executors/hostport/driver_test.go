package hostport

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
)

// A daemon that died before it recorded the mapping maps again: nothing changes, and nothing
// is left when the pod goes.
func TestRepeated(t *testing.T) {
	n := newNode(t)
	d := n.driver("/root")
	p := n.pod("pod", Port{8080, 80, TCP, netip.Addr{}}, Port{8080, 80, TCP, netip.Addr{}}, Port{8081, 80, UDP, worldIP})
	mapPorts(t, d, p.Pod)
	before := held(t, d)
	if len(before) != 5 { // 8080 in two families, 8081 in one, two hairpins
		t.Errorf("the table holds %q", before)
	}
	next := n.driver("/root")
	mapPorts(t, next, p.Pod)
	if after := held(t, next); !sameElements(before, after) {
		t.Errorf("the table holds %q, and before it was %q", after, before)
	}
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP, 8080), "pod")
	// The pod was attached anew, with other ports and another address.
	p.Ports, p.IPs[0] = []Port{{8082, 80, TCP, netip.Addr{}}, {8081, 80, UDP, worldIP}}, n.pod("there").IPs[0]
	mapPorts(t, next, p.Pod)
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP, 8082), "there")
	wantAnswer(t, n.world, "udp", netip.AddrPortFrom(worldIP, 8081), "there")
	wantRefused(t, n.world, netip.AddrPortFrom(worldIP, 8080))
	for range 2 {
		unmap(t, next, "pod")
		if left := held(t, next); len(left) != 0 {
			t.Errorf("left: %q", left)
		}
	}
}

func sameElements(a, b []element) bool {
	inA := map[element]bool{}
	for _, e := range a {
		inA[e] = true
	}
	return len(a) == len(b) && !slices.ContainsFunc(b, func(e element) bool { return !inA[e] })
}

// Of two pods with a port the first has it. The second is refused as a whole, by a message that
// names the port and the first; once the first is gone, it is welcome.
func TestConflict(t *testing.T) {
	n := newNode(t)
	d := n.driver("/root")
	first := n.pod("first", Port{8080, 80, TCP, netip.Addr{}}, Port{8081, 80, TCP, worldIP})
	mapPorts(t, d, first.Pod)
	for _, taken := range []Port{{8080, 80, TCP, netip.Addr{}}, {8080, 81, TCP, netip.IPv6Unspecified()}, {8081, 80, TCP, worldIP}} {
		second := n.pod(fmt.Sprintf("second-%d", n.pods), Port{9000, 80, TCP, netip.Addr{}}, taken)
		_, err := d.Map(t.Context(), second.Pod)
		if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), fmt.Sprint(taken.Host)+"/tcp") || !strings.Contains(err.Error(), "pod first") {
			t.Errorf("%s: %v", taken, err)
		}
		wantRefused(t, n.world, netip.AddrPortFrom(worldIP, 9000))
	}
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP, 8080), "first")
	// Neither another protocol nor another address is a conflict.
	mapPorts(t, d, n.pod("udp", Port{8080, 80, UDP, netip.Addr{}}, Port{8081, 80, TCP, bridgeIP}).Pod)
	unmap(t, d, "first")
	mapPorts(t, d, n.pod("third", first.Ports...).Pod)
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP, 8080), "third")
	wantAnswer(t, n.world, "udp", netip.AddrPortFrom(worldIP, 8080), "udp")
}

func TestTwiceInOnePod(t *testing.T) {
	n := newNode(t)
	d := n.driver("/root")
	p := n.pod("pod", Port{8080, 80, TCP, netip.Addr{}}, Port{8080, 81, TCP, netip.Addr{}})
	if _, err := d.Map(t.Context(), p.Pod); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "8080/tcp") {
		t.Errorf("map: %v", err)
	}
	if left := held(t, d); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// An address that was given to another pod, while the undoing of the first is still owed, is
// the other's.
func TestReusedAddress(t *testing.T) {
	n := newNode(t)
	d := n.driver("/root")
	p := n.pod("new", Port{8081, 80, TCP, netip.Addr{}})
	mapPorts(t, d, Pod{ID: "old", IPs: p.IPs, Ports: []Port{{8080, 80, TCP, netip.Addr{}}}})
	mapPorts(t, d, p.Pod)
	unmap(t, d, "old")
	wantAnswer(t, p.space, "tcp", netip.AddrPortFrom(worldIP, 8081), "new") // by the hairpin
}

// Pods that the log does not know lose their ports, and those of other daemons none.
func TestCollect(t *testing.T) {
	n := newNode(t)
	ours, theirs := n.driver("/root"), n.driver("/another/root")
	for _, d := range []*Driver{ours, theirs} {
		if removed, err := d.Collect(t.Context(), func(string) bool { return false }); err != nil || removed != nil {
			t.Errorf("without a table: %q, %v", removed, err)
		}
	}
	mapPorts(t, ours, n.pod("known", Port{8080, 80, TCP, netip.Addr{}}).Pod)
	mapPorts(t, ours, n.pod("unknown", Port{8081, 80, TCP, netip.Addr{}}, Port{8082, 80, TCP, worldIP}).Pod)
	mapPorts(t, theirs, n.pod("theirs", Port{8083, 80, TCP, netip.Addr{}}).Pod)
	removed, err := ours.Collect(t.Context(), func(id string) bool { return id == "known" })
	if err != nil || !slices.Equal(removed, []string{"unknown"}) {
		t.Errorf("removed %q, %v", removed, err)
	}
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP, 8080), "known")
	wantRefused(t, n.world, netip.AddrPortFrom(worldIP, 8081))
	wantRefused(t, n.world, netip.AddrPortFrom(worldIP, 8082))
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP, 8083), "theirs")
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP6, 8083), "theirs")
}

// After a reboot there is nothing to undo, and what is mapped next makes the table anew.
func TestReboot(t *testing.T) {
	n := newNode(t)
	d := n.driver("/root")
	unmap(t, d, "never")
	p := n.pod("pod", Port{8080, 80, TCP, netip.Addr{}})
	mapPorts(t, d, p.Pod)
	dropTable(t, d)
	unmap(t, d, "pod")
	mapPorts(t, d, p.Pod)
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP, 8080), "pod")
}

// Somebody emptied a chain: the next pod mends it for all.
func TestMended(t *testing.T) {
	n := newNode(t)
	d := n.driver("/root")
	mapPorts(t, d, n.pod("pod", Port{8080, 80, TCP, netip.Addr{}}).Pod)
	conn, err := d.open()
	must(t, err)
	conn.FlushChain(&nftables.Chain{Name: "hostports", Table: d.table.Table})
	must(t, conn.Flush())
	wantRefused(t, n.world, netip.AddrPortFrom(worldIP, 8080))
	mapPorts(t, d, n.pod("next", Port{8081, 80, TCP, netip.Addr{}}).Pod)
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP, 8080), "pod")
}

// A kernel that refuses: the error names a port, and nothing is half done.
func TestRefused(t *testing.T) {
	n := newNode(t)
	d := n.driver("/root")
	p := n.pod("pod", Port{8080, 80, TCP, netip.Addr{}})
	onThread(t, func() {
		withoutNetAdmin(t)
		if _, err := d.Map(t.Context(), p.Pod); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "8080/tcp") {
			t.Errorf("map: %v", err)
		}
		if err := d.Unmap(t.Context(), "pod"); err == nil {
			t.Error("what may be mapped counts as unmapped")
		}
	})
	if left := held(t, d); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	// Nor is a change that fails in its middle: the second element has no key of a port.
	good := element{place{ports[v4], word(6) + word(31, 144)}, strings.Repeat("\x00", 8), "pod"}
	must(t, d.ensure())
	if err := d.apply(change{add: []element{good, {place{ports[v6], "short"}, "", "pod"}}}); err == nil {
		t.Error("the kernel took an element without a port")
	}
	if left := held(t, d); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// withoutNetAdmin takes the capability from the calling thread, which must end.
func withoutNetAdmin(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	must(t, unix.Capget(&header, &sets[0]))
	sets[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	must(t, unix.Capset(&header, &sets[0]))
	runtime.KeepAlive(&sets)
}

// All ports of a range, in few messages, and with the pods of a full node beside.
func TestMany(t *testing.T) {
	n := newNode(t)
	d := n.driver("/root")
	p := n.pod("pod")
	for port := range 3000 {
		p.Ports = append(p.Ports, Port{uint16(20000 + port), 80, TCP, netip.Addr{}})
	}
	mapPorts(t, d, p.Pod)
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP, 22999), "pod")
	if all := held(t, d); len(all) != 6002 {
		t.Errorf("the table holds %d elements", len(all))
	}
	unmap(t, d, "pod")
	if left := held(t, d); len(left) != 0 {
		t.Errorf("left: %d elements", len(left))
	}
}

// Pods come and go at the same time.
func TestAtOnce(t *testing.T) {
	n := newNode(t)
	d := n.driver("/root")
	stays := n.pod("stays", Port{8080, 80, TCP, netip.Addr{}})
	mapPorts(t, d, stays.Pod)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			p := Pod{ID: fmt.Sprint(i), IPs: stays.IPs[1:], Ports: []Port{{uint16(9000 + i), 80, TCP, netip.Addr{}}}}
			for range 5 {
				if _, err := d.Map(t.Context(), p); err != nil {
					t.Error(err)
				}
				if err := d.Unmap(t.Context(), p.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	wantAnswer(t, n.world, "tcp", netip.AddrPortFrom(worldIP, 8080), "stays")
	if removed, err := d.Collect(t.Context(), func(id string) bool { return id == "stays" }); err != nil || removed != nil {
		t.Errorf("left of %q, %v", removed, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, d.turn.Acquire(t.Context(), 1))
	defer d.turn.Release(1)
	if _, err := d.Map(gone, stays.Pod); err == nil {
		t.Error("a caller that is gone got its turn")
	}
}

func BenchmarkMap(b *testing.B) {
	d := New(Config{Owner: "/bench", Logger: nil})
	defer func() {
		_, _ = d.Collect(context.Background(), func(string) bool { return false })
	}()
	pod := func(i int) Pod {
		ip := netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})
		return Pod{ID: strings.Repeat("0", 60) + fmt.Sprintf("%04x", i), IPs: []netip.Addr{ip}, Ports: []Port{{uint16(10000 + i), 80, TCP, worldIP}, {uint16(20000 + i), 80, TCP, worldIP}}}
	}
	for i := range 500 {
		if _, err := d.Map(b.Context(), pod(i)); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("500 pods, map", func(b *testing.B) {
		for b.Loop() {
			if _, err := d.Map(b.Context(), pod(600)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("500 pods, unmap none", func(b *testing.B) {
		for b.Loop() {
			if err := d.Unmap(b.Context(), "none"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
