package hostport

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
)

// openLoopback lets processes of the node reach the pod's ports at 127.0.0.1. The kernel
// takes packets with such an address for martians unless an interface has route_localnet, as
// the portmap plugin sets it. That alone would let the interface's neighbours, pods that is,
// reach what listens on 127.0.0.1 of the node (CVE-2020-8558): the table's chain guard drops
// such packets before routing. It is there before, and stays after the last mapping.
//
// A failure is no reason to refuse the pod, which is reached at any other address; CRI-O does
// not even try.
func (d *Driver) openLoopback(p Pod) {
	ip := p.address(v4)
	for _, port := range p.Ports {
		if ip.IsValid() && port.onLoopback() {
			if err := routeLocalnet(ip); err != nil {
				d.logger.Warn("host ports cannot be reached at 127.0.0.1", "pod", p.ID, "port", port.String(), "error", err)
			}
			return
		}
	}
}

// routeLocalnet sets route_localnet on the interfaces by which an address is reached.
func routeLocalnet(to netip.Addr) error {
	routes, err := netlink.RouteGet(to.AsSlice())
	if err != nil {
		return fmt.Errorf("find the interface of %s: %w", to, err)
	}
	for _, route := range routes {
		link, err := netlink.LinkByIndex(route.LinkIndex)
		if err != nil {
			return fmt.Errorf("find the interface of %s: %w", to, err)
		}
		path := filepath.Join("/proc/sys/net/ipv4/conf", link.Attrs().Name, "route_localnet")
		if now, err := os.ReadFile(path); err == nil && bytes.Equal(bytes.TrimSpace(now), []byte("1")) {
			continue
		}
		if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
			return fmt.Errorf("route loopback addresses to %s: %w", to, err)
		}
	}
	return nil
}
