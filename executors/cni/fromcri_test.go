package cni_test

import (
	"reflect"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/cni"
)

func TestPodOf(t *testing.T) {
	pod, err := cni.PodOf(&runtimeapi.PodSandboxConfig{
		Metadata:  &runtimeapi.PodSandboxMetadata{Name: "web", Namespace: "default", Uid: "u"},
		DnsConfig: &runtimeapi.DNSConfig{Servers: []string{"10.0.0.10"}, Searches: []string{"svc"}, Options: []string{"ndots:5"}},
		PortMappings: []*runtimeapi.PortMapping{
			{ContainerPort: 80}, // maps nothing
			{ContainerPort: 80, HostPort: 8080, HostIp: "127.0.0.1"},
			{ContainerPort: 53, HostPort: 53, Protocol: runtimeapi.Protocol_UDP},
			{ContainerPort: 7, HostPort: 7, Protocol: runtimeapi.Protocol_SCTP},
		},
		Linux: &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/pods"},
	}, "id", "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	want := cni.Pod{
		ID: "id", Name: "web", Namespace: "default", UID: "u", NetNS: "/ns/net", CgroupParent: "/pods",
		DNS: cni.DNS{Servers: []string{"10.0.0.10"}, Searches: []string{"svc"}, Options: []string{"ndots:5"}},
		PortMappings: []cni.PortMapping{
			{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", HostIP: "127.0.0.1"},
			{HostPort: 53, ContainerPort: 53, Protocol: "udp"}, {HostPort: 7, ContainerPort: 7, Protocol: "sctp"},
		},
	}
	if !reflect.DeepEqual(pod, want) {
		t.Errorf("plugins are told %+v, want %+v", pod, want)
	}
	if _, err := cni.PodOf(&runtimeapi.PodSandboxConfig{Annotations: map[string]string{"kubernetes.io/ingress-bandwidth": "much"}}, "id", ""); err == nil {
		t.Error("a bandwidth that is none is accepted")
	}
}
