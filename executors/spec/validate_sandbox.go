package spec

import (
	"fmt"
	"net/netip"
	"path"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/confine"
	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// ValidateSandbox refuses what is wrong in a pod's config whatever the node is. The
// error is a FieldError. Sysctls and the cgroup parent are checked by those who set
// them.
func ValidateSandbox(s *cri.PodSandboxConfig) error {
	if s == nil {
		return refusal.Invalid("config", nil, "is missing")
	}
	return refusal.First(
		func() error { return checkPodMetadata(s.Metadata) },
		func() error { return checkHostname(s.Hostname) },
		func() error {
			if s.LogDirectory != "" && (!path.IsAbs(s.LogDirectory) || !isClean(s.LogDirectory)) {
				return refusal.Invalid("log_directory", s.LogDirectory, "is not an absolute, clean path")
			}
			if len(s.LogDirectory) > maxPath {
				return refusal.Invalid("log_directory", s.LogDirectory, "is longer than the kernel's %d bytes", maxPath)
			}
			return refusal.CheckPrintable("log_directory", s.LogDirectory)
		},
		func() error { return checkDNS(s.DnsConfig) },
		func() error { return checkPorts(s.PortMappings) },
		func() error {
			if s.Windows != nil {
				return refusal.Unsupported("windows", nil, "is for another operating system")
			}
			return nil
		},
		func() error { return checkSandboxSecurity(s.GetLinux().GetSecurityContext()) },
		func() error { return checkResources("linux.overhead", s.GetLinux().GetOverhead()) },
		func() error { return checkResources("linux.resources", s.GetLinux().GetResources()) },
	)
}

// isClean allows a trailing slash, as in the CRI's own example.
func isClean(dir string) bool {
	return path.Clean(dir) == strings.TrimSuffix(dir, "/")
}

// checkPodMetadata wants a name and a namespace. A uid is always there when the
// kubelet asks, but clients for debugging leave it out.
func checkPodMetadata(m *cri.PodSandboxMetadata) error {
	if m == nil {
		return refusal.Invalid("metadata", nil, "is missing")
	}
	return refusal.First(
		func() error { return checkPodName("metadata.name", m.Name) },
		func() error { return checkPodName("metadata.namespace", m.Namespace) },
		func() error {
			if m.Uid == "" {
				return nil
			}
			return checkPodName("metadata.uid", m.Uid)
		},
	)
}

// checkPodName also refuses what would add to the list of KEY=VALUE that tells CNI plugins of a
// pod (CNI_ARGS).
func checkPodName(field, name string) error {
	if strings.ContainsAny(name, ";=") {
		return refusal.Invalid(field, name, "has a character that cannot be told to a CNI plugin")
	}
	return refusal.CheckName(field, name)
}

// maxHostname is the kernel's bound, in bytes.
const maxHostname = 64

func checkHostname(name string) error {
	if len(name) > maxHostname {
		return refusal.Invalid("hostname", name, "is longer than the kernel's %d bytes", maxHostname)
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		default:
			return refusal.Invalid("hostname", name, "has a character that host names don't have")
		}
	}
	return nil
}

// checkDNS refuses what would inject lines into resolv.conf.
func checkDNS(dns *cri.DNSConfig) error {
	for i, server := range dns.GetServers() {
		if _, err := netip.ParseAddr(server); err != nil {
			return refusal.Invalid(fmt.Sprintf("dns_config.servers[%d]", i), server, "is not an IP address")
		}
	}
	for _, list := range []struct {
		field  string
		values []string
	}{
		{"dns_config.searches", dns.GetSearches()},
		{"dns_config.options", dns.GetOptions()},
	} {
		for i, value := range list.values {
			if value == "" || strings.ContainsAny(value, " \t\r\n\v\f\x00") {
				return refusal.Invalid(fmt.Sprintf("%s[%d]", list.field, i), value, "is empty or has a space")
			}
		}
	}
	return nil
}

func checkPorts(ports []*cri.PortMapping) error {
	for i, p := range ports {
		field := fmt.Sprintf("port_mappings[%d]", i)
		if _, ok := cri.Protocol_name[int32(p.GetProtocol())]; !ok {
			return refusal.Invalid(field+".protocol", int32(p.GetProtocol()), "is not a protocol of the CRI's")
		}
		// 0 means that no port of the node is taken.
		if p.GetHostPort() < 0 || p.GetHostPort() > 65535 {
			return refusal.Invalid(field+".host_port", p.GetHostPort(), "is out of range")
		}
		if p.GetContainerPort() < 0 || p.GetContainerPort() > 65535 {
			return refusal.Invalid(field+".container_port", p.GetContainerPort(), "is out of range")
		}
		if p.GetHostIp() != "" {
			if _, err := netip.ParseAddr(p.GetHostIp()); err != nil {
				return refusal.Invalid(field+".host_ip", p.GetHostIp(), "is not an IP address")
			}
		}
	}
	return nil
}

func checkSandboxSecurity(sec *cri.LinuxSandboxSecurityContext) error {
	const prefix = "linux.security_context."
	return refusal.First(
		func() error { return checkNamespaces(prefix+"namespace_options", sec.GetNamespaceOptions()) },
		func() error {
			if pid := sec.GetNamespaceOptions().GetPid(); pid == cri.NamespaceMode_TARGET {
				return refusal.Invalid(prefix+"namespace_options.pid", pid, "is a mode that only containers have")
			}
			return nil
		},
		func() error {
			if sec.GetRunAsGroup() != nil && sec.GetRunAsUser() == nil {
				return refusal.Invalid(prefix+"run_as_group", sec.RunAsGroup.Value, "is given without run_as_user")
			}
			return checkIDs(prefix, sec.GetRunAsUser(), sec.GetRunAsGroup(), sec.GetSupplementalGroups())
		},
		func() error { return confine.CheckSELinux(prefix+"selinux_options", sec.GetSelinuxOptions()) },
	)
}
