package cni

import runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

// PodOf returns what plugins get to know of a pod of the CRI. Its errors name the
// field or the annotation that is to blame.
func PodOf(config *runtimeapi.PodSandboxConfig, sandboxID, netns string) (Pod, error) {
	ingress, egress, err := ParseBandwidth(config.GetAnnotations())
	if err != nil {
		return Pod{}, err
	}
	meta := config.GetMetadata()
	pod := Pod{
		ID: sandboxID, Name: meta.GetName(), Namespace: meta.GetNamespace(), UID: meta.GetUid(), NetNS: netns,
		IngressRate: ingress, EgressRate: egress, CgroupParent: config.GetLinux().GetCgroupParent(),
	}
	if dns := config.GetDnsConfig(); dns != nil {
		pod.DNS = DNS{Servers: dns.GetServers(), Searches: dns.GetSearches(), Options: dns.GetOptions()}
	}
	for _, m := range config.GetPortMappings() {
		// A mapping without a port on the node maps nothing.
		if m.GetHostPort() == 0 {
			continue
		}
		pod.PortMappings = append(pod.PortMappings, PortMapping{
			HostPort: m.GetHostPort(), ContainerPort: m.GetContainerPort(),
			Protocol: protocol(m.GetProtocol()), HostIP: m.GetHostIp(),
		})
	}
	return pod, nil
}

func protocol(p runtimeapi.Protocol) string {
	switch p {
	case runtimeapi.Protocol_UDP:
		return "udp"
	case runtimeapi.Protocol_SCTP:
		return "sctp"
	case runtimeapi.Protocol_TCP:
	}
	return "tcp"
}
