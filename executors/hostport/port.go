package hostport

import (
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// Protocol is a transport protocol by its IP protocol number.
type Protocol uint8

// The protocols whose ports can be mapped.
const (
	TCP  Protocol = unix.IPPROTO_TCP
	UDP  Protocol = unix.IPPROTO_UDP
	SCTP Protocol = unix.IPPROTO_SCTP
)

func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return strconv.Itoa(int(p))
}

// Port maps a port of the node to one of a pod.
type Port struct {
	Host, Container uint16
	Protocol        Protocol
	// HostIP is the node's address that it is for. The zero Addr stands for all addresses,
	// 0.0.0.0 for all of IPv4 and :: for all of IPv6.
	HostIP netip.Addr
}

// String names the node's side: "8080/tcp", or "8080/tcp on 10.0.0.1".
func (p Port) String() string {
	s := fmt.Sprintf("%d/%s", p.Host, p.Protocol)
	if p.HostIP.IsValid() {
		s += " on " + p.HostIP.String()
	}
	return s
}

// everywhere reports whether the port is mapped on all addresses of its families.
func (p Port) everywhere() bool { return !p.HostIP.IsValid() || p.HostIP.IsUnspecified() }

// of reports whether the port can be mapped in a family. It cannot on ::1, from where no route
// leaves the node.
func (p Port) of(f family) bool {
	return !p.HostIP.IsValid() || familyOf(p.HostIP) == f && p.HostIP != netip.IPv6Loopback()
}

// onLoopback reports whether the port is mapped on the node's IPv4 loopback addresses.
func (p Port) onLoopback() bool {
	return p.of(v4) && (p.everywhere() || p.HostIP.Unmap().IsLoopback())
}

// Pod is a pod with the ports that it asks for.
type Pod struct {
	// ID is the sandbox's.
	ID string
	// IPs are the pod's addresses; ports are mapped to the first of each family.
	IPs   []netip.Addr
	Ports []Port
}

// address returns the pod's address in a family, invalid if it has none.
func (p Pod) address(f family) netip.Addr {
	for _, ip := range p.IPs {
		if familyOf(ip) == f {
			return ip.Unmap()
		}
	}
	return netip.Addr{}
}

type family int

const (
	v4 family = iota
	v6
)

var families = []family{v4, v6}

func familyOf(ip netip.Addr) family {
	if ip.Unmap().Is4() {
		return v4
	}
	return v6
}
