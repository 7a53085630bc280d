package cni

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/stele-runtime/stele/actors/fault"
)

// interfaceName is the pod's interface, as Kubernetes expects it.
const interfaceName = "eth0"

// annotationsCapability has the pod's annotations, in CRI-O and containerd, too.
const annotationsCapability = "io.kubernetes.cri.pod-annotations"

// Pod is what plugins get to know of a pod.
type Pod struct {
	// ID is the CNI container id, the sandbox's.
	ID                   string
	Name, Namespace, UID string
	// NetNS is the path of the pod's network namespace.
	NetNS        string
	PortMappings []PortMapping
	// IngressRate and EgressRate are in bits per second, 0 for no limit.
	IngressRate, EgressRate int64
	CgroupParent            string
	DNS                     DNS
	// Annotations are the pod's.
	Annotations map[string]string
}

// PortMapping maps a port of the node to one of the pod.
type PortMapping struct {
	HostPort, ContainerPort int32
	// Protocol is tcp, udp or sctp.
	Protocol string
	// HostIP is the node's address that it is for; empty for all.
	HostIP string
}

// DNS is the resolver configuration for plugins that serve names themselves.
type DNS struct{ Servers, Searches, Options []string }

// Attachment is the result of attaching a pod.
type Attachment struct {
	Network string
	// IPs are the pod's addresses in the order of the result, the primary first. A
	// network may give none.
	IPs []netip.Addr
	// Result is the CNI result, as JSON.
	Result []byte
	// Capabilities are those of the network's plugins.
	Capabilities map[string]bool
}

// Capabilities without which a pod's port mappings and rates are ignored.
const (
	PortMappings = "portMappings"
	Bandwidth    = "bandwidth"
)

// Attached names an attachment that GC keeps.
type Attached struct{ ID string }

// validate refuses what a plugin would misread.
func (p Pod) validate() error {
	if !podID.MatchString(p.ID) {
		return invalid("pod id %.200q is not an id", p.ID)
	}
	for field, value := range map[string]string{"name": p.Name, "namespace": p.Namespace, "uid": p.UID} {
		// CNI_ARGS is a list of KEY=VALUE; a name must not smuggle in another key.
		if strings.ContainsAny(value, ";=\x00\n") {
			return invalid("metadata.%s: %.200q has a character that cannot be told to a CNI plugin", field, value)
		}
	}
	for i, m := range p.PortMappings {
		if err := m.validate(i); err != nil {
			return err
		}
	}
	return nil
}

// validate names the mapping by its index in the request.
func (m PortMapping) validate(i int) error {
	switch {
	case m.HostPort < 1 || m.HostPort > 65535:
		return invalid("port_mappings[%d].host_port: %d is not a port", i, m.HostPort)
	case m.ContainerPort < 1 || m.ContainerPort > 65535:
		return invalid("port_mappings[%d].container_port: %d is not a port", i, m.ContainerPort)
	case m.Protocol != "tcp" && m.Protocol != "udp" && m.Protocol != "sctp":
		return invalid("port_mappings[%d].protocol: %.100q is not tcp, udp or sctp", i, m.Protocol)
	case m.HostIP != "":
		if addr, err := netip.ParseAddr(m.HostIP); err != nil || addr.Zone() != "" {
			return invalid("port_mappings[%d].host_ip: %.100q is not an address", i, m.HostIP)
		}
	}
	return nil
}

// runtimeConf is what libcni tells every plugin. It hands each capability only
// to the plugins that declare it.
func (p Pod) runtimeConf() *libcni.RuntimeConf {
	capabilities := map[string]any{annotationsCapability: p.Annotations}
	if p.Annotations == nil {
		capabilities[annotationsCapability] = map[string]string{} // and not null
	}
	if len(p.PortMappings) > 0 {
		var mappings []map[string]any
		for _, m := range p.PortMappings {
			mapping := map[string]any{"hostPort": m.HostPort, "containerPort": m.ContainerPort, "protocol": m.Protocol}
			if m.HostIP != "" {
				mapping["hostIP"] = m.HostIP
			}
			mappings = append(mappings, mapping)
		}
		capabilities[PortMappings] = mappings
	}
	if p.IngressRate > 0 || p.EgressRate > 0 {
		limits := map[string]any{}
		if p.IngressRate > 0 {
			limits["ingressRate"], limits["ingressBurst"] = p.IngressRate, burst(p.IngressRate)
		}
		if p.EgressRate > 0 {
			limits["egressRate"], limits["egressBurst"] = p.EgressRate, burst(p.EgressRate)
		}
		capabilities[Bandwidth] = limits
	}
	if len(p.DNS.Servers)+len(p.DNS.Searches)+len(p.DNS.Options) > 0 {
		capabilities["dns"] = map[string]any{"servers": p.DNS.Servers, "searches": p.DNS.Searches, "options": p.DNS.Options}
	}
	if p.CgroupParent != "" {
		capabilities["cgroupPath"] = p.CgroupParent
	}
	return &libcni.RuntimeConf{
		ContainerID: p.ID, NetNS: p.NetNS, IfName: interfaceName,
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", p.Namespace},
			{"K8S_POD_NAME", p.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", p.ID},
			{"K8S_POD_UID", p.UID},
		},
		CapabilityArgs: capabilities,
	}
}

// burst returns the burst of a rate, in bits; a rate must have one. It is as large
// as other runtimes make it, but at most a minute's worth: the kernel keeps its
// duration in 32 bits of 64 ns, and a longer one wraps, down to less than a packet.
func burst(rate int64) int64 { return min(math.MaxInt32, 60*rate) }

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "attach network", "", "%s", fmt.Sprintf(format, args...))
}
