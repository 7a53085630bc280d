package cni

import (
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

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
		Annotations: config.GetAnnotations(),
	}
	if dns := config.GetDnsConfig(); dns != nil {
		pod.DNS = DNS{Servers: dns.GetServers(), Searches: dns.GetSearches(), Options: dns.GetOptions()}
	}
	for i, m := range config.GetPortMappings() {
		// A mapping without a port on the node maps nothing.
		if m.GetHostPort() == 0 {
			continue
		}
		mapping := PortMapping{
			HostPort: m.GetHostPort(), ContainerPort: m.GetContainerPort(),
			Protocol: strings.ToLower(m.GetProtocol().String()), HostIP: m.GetHostIp(),
		}
		if err := mapping.validate(i); err != nil {
			return Pod{}, err
		}
		pod.PortMappings = append(pod.PortMappings, mapping)
	}
	return pod, nil
}
