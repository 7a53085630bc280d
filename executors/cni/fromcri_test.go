package cni_test

import (
	"reflect"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
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
		Linux:       &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/pods"},
		Annotations: map[string]string{"a": "b"},
	}, "id", "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	want := cni.Pod{
		ID: "id", Name: "web", Namespace: "default", UID: "u", NetNS: "/ns/net", CgroupParent: "/pods",
		Annotations: map[string]string{"a": "b"},
		DNS:         cni.DNS{Servers: []string{"10.0.0.10"}, Searches: []string{"svc"}, Options: []string{"ndots:5"}},
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

// Mappings that cannot be are refused with their index in the request, before anything is made.
func TestPodOfRefusesPorts(t *testing.T) {
	for want, m := range map[string]*runtimeapi.PortMapping{
		"port_mappings[1].host_port: 70000 is not a port":                 {HostPort: 70000, ContainerPort: 80},
		"port_mappings[1].host_port: -1 is not a port":                    {HostPort: -1, ContainerPort: 80},
		"port_mappings[1].container_port: 0 is not a port":                {HostPort: 80},
		"port_mappings[1].container_port: 65536 is not a port":            {HostPort: 80, ContainerPort: 65536},
		`port_mappings[1].protocol: "7" is not tcp, udp or sctp`:          {HostPort: 80, ContainerPort: 80, Protocol: 7},
		`port_mappings[1].host_ip: "localhost" is not an address`:         {HostPort: 80, ContainerPort: 80, HostIp: "localhost"},
		`port_mappings[1].host_ip: "10.0.0.0/8" is not an address`:        {HostPort: 80, ContainerPort: 80, HostIp: "10.0.0.0/8"},
		`port_mappings[1].host_ip: "fe80::1%eth0" is not an address`:      {HostPort: 80, ContainerPort: 80, HostIp: "fe80::1%eth0"},
		`port_mappings[1].host_ip: "127.0.0.1\n; drop" is not an address`: {HostPort: 80, ContainerPort: 80, HostIp: "127.0.0.1\n; drop"},
	} {
		config := &runtimeapi.PodSandboxConfig{PortMappings: []*runtimeapi.PortMapping{{ContainerPort: 1}, m}}
		if _, err := cni.PodOf(config, "id", ""); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%v is refused with %v, want %s", m, err, want)
		}
	}
}
