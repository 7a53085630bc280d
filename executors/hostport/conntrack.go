package hostport

import (
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forgetFlows makes the kernel forget the UDP flows to a pod's ports. A flow lives as long as
// its client sends, and it keeps going where the first packet went: to a pod that is gone, or
// to the node itself. A failure is no reason to refuse the pod.
func (d *Driver) forgetFlows(p Pod) {
	for _, f := range families {
		if !p.address(f).IsValid() {
			continue
		}
		var filters []netlink.CustomConntrackFilter
		for _, port := range p.Ports {
			if port.Protocol != UDP || !port.of(f) {
				continue
			}
			filter := &netlink.ConntrackFilter{}
			_ = filter.AddProtocol(uint8(UDP)) // each kind of condition fails only if it is added twice
			_ = filter.AddPort(netlink.ConntrackOrigDstPort, port.Host)
			if !port.everywhere() {
				_ = filter.AddIP(netlink.ConntrackOrigDstIP, port.HostIP.Unmap().AsSlice())
			}
			filters = append(filters, filter)
		}
		if len(filters) == 0 {
			continue
		}
		inet := [...]netlink.InetFamily{v4: unix.AF_INET, v6: unix.AF_INET6}
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, inet[f], filters...); err != nil {
			d.logger.Warn("old UDP flows to a pod's host ports not forgotten", "pod", p.ID, "error", err)
		}
	}
}
