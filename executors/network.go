package executors

import (
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/cni"
)

// NetworkPod says about a pod what CNI plugins are told. Its errors name the
// field or the annotation that cannot be told.
func NetworkPod(config *runtimeapi.PodSandboxConfig, sandboxID, netns string) (cni.Pod, error) {
	ingress, egress, err := cni.ParseBandwidth(config.GetAnnotations())
	if err != nil {
		return cni.Pod{}, err
	}
	meta := config.GetMetadata()
	pod := cni.Pod{
		ID: sandboxID, Name: meta.GetName(), Namespace: meta.GetNamespace(), UID: meta.GetUid(), NetNS: netns,
		IngressRate: ingress, EgressRate: egress, CgroupParent: config.GetLinux().GetCgroupParent(),
	}
	if dns := config.GetDnsConfig(); dns != nil {
		pod.DNS = cni.DNS{Servers: dns.GetServers(), Searches: dns.GetSearches(), Options: dns.GetOptions()}
	}
	for _, m := range config.GetPortMappings() {
		// A mapping without a port on the node maps nothing.
		if m.GetHostPort() == 0 {
			continue
		}
		pod.PortMappings = append(pod.PortMappings, cni.PortMapping{
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
