package executors

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/executors/cni"
	"github.com/stele-runtime/stele/executors/hostport"
)

// toldMost is how many of a pod's ports an event lists.
const toldMost = 32

// mapPorts maps the pod's ports of the node, if its network cannot. It returns in words what
// it mapped, and what nobody maps.
func (x pods) mapPorts(ctx context.Context, pod cni.Pod, attached cni.Attachment) (mapped, unserved []string, err error) {
	if len(pod.PortMappings) == 0 {
		return nil, nil, nil
	}
	wanted, err := portsOf(pod)
	if err != nil {
		return nil, nil, err
	}
	if attached.Capabilities[cni.PortMappings] {
		// The pod may have been attached to another network before, until a crash.
		return nil, nil, x.HostPort.Unmap(ctx, pod.ID)
	}
	if x.DisableHostPorts {
		reason := fmt.Sprintf("no plugin of network %s has the capability %s, and disable_hostport_mapping is set", attached.Network, cni.PortMappings)
		return nil, told(wanted, func(p hostport.Port) string { return fmt.Sprintf("host port %s: %s", p, reason) }), nil
	}
	unmapped, err := x.HostPort.Map(ctx, hostport.Pod{ID: pod.ID, IPs: attached.IPs, Ports: wanted})
	if err != nil {
		return nil, nil, err
	}
	wanted = slices.DeleteFunc(wanted, func(p hostport.Port) bool { return slices.Contains(unmapped, p) })
	mapped = told(wanted, func(p hostport.Port) string { return fmt.Sprintf("%s to port %d", p, p.Container) })
	unserved = told(unmapped, func(p hostport.Port) string {
		return fmt.Sprintf("host port %s: the pod has no address to which it could be mapped", p)
	})
	return mapped, unserved, nil
}

// unmapPorts undoes mapPorts. Whether there was a mapping only the kernel knows; it is not
// asked about pods that asked for none.
func (x pods) unmapPorts(ctx context.Context, pod sandbox.Pod) error {
	config := &runtimeapi.PodSandboxConfig{}
	if err := decode(pod.Config, config); err == nil && len(pod.Config) > 0 &&
		!slices.ContainsFunc(config.GetPortMappings(), func(m *runtimeapi.PortMapping) bool { return m.GetHostPort() != 0 }) {
		return nil
	}
	return x.HostPort.Unmap(ctx, string(pod.ID))
}

// CollectHostPorts unmaps the ports of unknown pods, and returns their ids.
func (x *Executor) CollectHostPorts(ctx context.Context, known func(id string) bool) (removed []string, err error) {
	return x.HostPort.Collect(ctx, known)
}

var protocols = map[string]hostport.Protocol{"tcp": hostport.TCP, "udp": hostport.UDP, "sctp": hostport.SCTP}

// portsOf returns a pod's ports; that their values are ports was checked before ADD.
func portsOf(pod cni.Pod) ([]hostport.Port, error) {
	var all []hostport.Port
	for _, m := range pod.PortMappings {
		port := hostport.Port{Host: uint16(m.HostPort), Container: uint16(m.ContainerPort), Protocol: protocols[m.Protocol]}
		if m.HostIP != "" {
			var err error
			if port.HostIP, err = netip.ParseAddr(m.HostIP); err != nil {
				return nil, fault.New(fault.Invalid, "map host port", port.String(), "%.100q is not an address", m.HostIP)
			}
		}
		all = append(all, port)
	}
	return all, nil
}

// told words the first ports of a list.
func told(ports []hostport.Port, word func(hostport.Port) string) (all []string) {
	for i, p := range ports {
		if i == toldMost {
			return append(all, fmt.Sprintf("and %d more", len(ports)-i))
		}
		all = append(all, word(p))
	}
	return all
}

// unservedRates says which of the pod's limits no plugin of its network sets.
func unservedRates(pod cni.Pod, attached cni.Attachment) (all []string) {
	if attached.Capabilities[cni.Bandwidth] {
		return nil
	}
	for _, limit := range []struct {
		annotation string
		rate       int64
	}{{cni.IngressAnnotation, pod.IngressRate}, {cni.EgressAnnotation, pod.EgressRate}} {
		if limit.rate > 0 {
			all = append(all, fmt.Sprintf("annotation %s: no plugin of network %s has the capability %s",
				limit.annotation, attached.Network, cni.Bandwidth))
		}
	}
	return all
}
