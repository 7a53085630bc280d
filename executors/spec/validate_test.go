package spec

import (
	"errors"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// refusedContainer is a change to an ordinary container, and the field for which
// it is then refused.
type refusedContainer struct {
	name   string
	change func(*cri.ContainerConfig)
	field  string
	kind   fault.Kind
}

func (c refusedContainer) check(t *testing.T) {
	t.Run(c.name, func(t *testing.T) {
		in := fixture()
		in.Sandbox.LogDirectory = "/var/log/pods/x/"
		c.change(in.Container)
		wantField(t, ValidateContainer(in.Container, in.Sandbox), c.field, c.kind)
		if _, err := Ask(in.Input); err == nil {
			t.Error("Ask accepts it")
		}
		if _, err := Container(in.Input, Answers{}); err == nil {
			t.Error("Container accepts it")
		}
	})
}

func TestValidateContainer(t *testing.T) {
	type c = *cri.ContainerConfig
	for _, refused := range []refusedContainer{
		{"no metadata", func(c c) { c.Metadata = nil }, "metadata", fault.Invalid},
		{"no name", func(c c) { c.Metadata.Name = "" }, "metadata.name", fault.Invalid},
		{"path in the name", func(c c) { c.Metadata.Name = "../x" }, "metadata.name", fault.Invalid},
		{"dots as the name", func(c c) { c.Metadata.Name = ".." }, "metadata.name", fault.Invalid},
		{"line break in the name", func(c c) { c.Metadata.Name = "a\nb" }, "metadata.name", fault.Invalid},
		{"long name", func(c c) { c.Metadata.Name = strings.Repeat("a", 254) }, "metadata.name", fault.Invalid},
		{"no image", func(c c) { c.Image = nil }, "image.image", fault.Invalid},
		{"absolute log", func(c c) { c.LogPath = "/etc/cron.d/x" }, "log_path", fault.Invalid},
		{"log outside", func(c c) { c.LogPath = "../../etc/x" }, "log_path", fault.Invalid},
		{"log outside by a detour", func(c c) { c.LogPath = "a/../../x" }, "log_path", fault.Invalid},
		{"relative working dir", func(c c) { c.WorkingDir = "app" }, "working_dir", fault.Invalid},
		{"NUL in args", func(c c) { c.Args = []string{"a", "b\x00"} }, "args[1]", fault.Invalid},
		{"bad variable", func(c c) { c.Envs = []*cri.KeyValue{{Key: "A"}, {Key: "B=C"}} }, "envs[1]", fault.Invalid},
		{"Windows", func(c c) { c.Windows = &cri.WindowsContainerConfig{} }, "windows", fault.Unsupported},
		{"signal", func(c c) { c.StopSignal = 99 }, "stop_signal", fault.Invalid},
	} {
		refused.check(t)
	}
	if err := ValidateContainer(nil, nil); err == nil {
		t.Error("no config, no error")
	}
}

func TestValidateMountsAndDevices(t *testing.T) {
	type c = *cri.ContainerConfig
	mount := func(m *cri.Mount) func(c) {
		return func(c c) {
			if m.ContainerPath == "" {
				m.ContainerPath = "/p"
			}
			if m.HostPath == "" && m.Image == nil {
				m.HostPath = "/h"
			}
			c.Mounts = []*cri.Mount{m}
		}
	}
	for _, refused := range []refusedContainer{
		{"mount on the root", mount(&cri.Mount{ContainerPath: "/../"}), "mounts[0].container_path", fault.Invalid},
		{"mount on a relative path", mount(&cri.Mount{ContainerPath: "p"}), "mounts[0].container_path", fault.Invalid},
		{"mount of a relative path", mount(&cri.Mount{HostPath: "h"}), "mounts[0].host_path", fault.Invalid},
		{"mount of an image's parent", mount(&cri.Mount{Readonly: true, Image: &cri.ImageSpec{Image: "i"}, ImageSubPath: "a/../../b"}), "mounts[0].image_sub_path", fault.Invalid},
		{"mount of an image's root", mount(&cri.Mount{Readonly: true, Image: &cri.ImageSpec{Image: "i"}, ImageSubPath: "/a"}), "mounts[0].image_sub_path", fault.Invalid},
		{"mount of an image that sends mounts", mount(&cri.Mount{Readonly: true, Image: &cri.ImageSpec{Image: "i"}, Propagation: cri.MountPropagation_PROPAGATION_BIDIRECTIONAL}), "mounts[0].propagation", fault.Invalid},
		{"mount of an image, writable", mount(&cri.Mount{Image: &cri.ImageSpec{Image: "i"}}), "mounts[0].readonly", fault.Invalid},
		{"mount of an image that loosens", mount(&cri.Mount{Readonly: true, Image: &cri.ImageSpec{Image: "i"}, MountOptions: []string{"exec"}}), "mounts[0].mount_options", fault.Invalid},
		{"mount of an image and a path", mount(&cri.Mount{Readonly: true, Image: &cri.ImageSpec{Image: "i"}, HostPath: "/h"}), "mounts[0].host_path", fault.Invalid},
		{"sub path without image", mount(&cri.Mount{ImageSubPath: "x"}), "mounts[0].image_sub_path", fault.Invalid},
		{"mount on a process", mount(&cri.Mount{ContainerPath: "/proc/1/fd"}), "mounts[0].container_path", fault.Invalid},
		{"mount with an empty mapping", mount(&cri.Mount{UidMappings: []*cri.IDMapping{{}}}), "mounts[0].uidMappings[0].length", fault.Invalid},
		{"mount with users mapped alone", mount(&cri.Mount{UidMappings: []*cri.IDMapping{{HostId: 1, Length: 1}}}), "mounts[0].gidMappings", fault.Invalid},
		{"recursive alone", mount(&cri.Mount{RecursiveReadOnly: true}), "mounts[0].recursive_read_only", fault.Invalid},
		{"recursive and shared", mount(&cri.Mount{RecursiveReadOnly: true, Readonly: true, Propagation: 1}), "mounts[0].recursive_read_only", fault.Invalid},
		{"unknown propagation", mount(&cri.Mount{Propagation: 9}), "mounts[0].propagation", fault.Invalid},
		{"mount option that loosens", mount(&cri.Mount{MountOptions: []string{"nodev", "suid"}}), "mounts[0].mount_options", fault.Invalid},
		{"mount option that shares", mount(&cri.Mount{MountOptions: []string{"rshared"}}), "mounts[0].mount_options", fault.Invalid},
		{"mount option with a list", mount(&cri.Mount{MountOptions: []string{"nodev,suid"}}), "mounts[0].mount_options", fault.Invalid},
		{"device", func(c c) { c.Devices = []*cri.Device{{HostPath: "null", ContainerPath: "/x"}} }, "devices[0].host_path", fault.Invalid},
		{"device permissions", func(c c) { c.Devices = []*cri.Device{{HostPath: "/x", ContainerPath: "/x", Permissions: "rx"}} }, "devices[0].permissions", fault.Invalid},
	} {
		refused.check(t)
	}
}

func TestValidateResources(t *testing.T) {
	type c = *cri.ContainerConfig
	res := func(r *cri.LinuxContainerResources) func(c) { return func(c c) { c.Linux.Resources = r } }
	for _, refused := range []refusedContainer{
		{"negative shares", res(&cri.LinuxContainerResources{CpuShares: -1}), "linux.resources.cpu_shares", fault.Invalid},
		{"period below a millisecond", res(&cri.LinuxContainerResources{CpuPeriod: 999}), "linux.resources.cpu_period", fault.Invalid},
		{"period above a second", res(&cri.LinuxContainerResources{CpuPeriod: 1000001}), "linux.resources.cpu_period", fault.Invalid},
		{"quota below a millisecond", res(&cri.LinuxContainerResources{CpuQuota: 999}), "linux.resources.cpu_quota", fault.Invalid},
		{"quota above the kernel's", res(&cri.LinuxContainerResources{CpuQuota: 1 << 44}), "linux.resources.cpu_quota", fault.Invalid},
		{"swap without memory", res(&cri.LinuxContainerResources{MemorySwapLimitInBytes: 1 << 30}), "linux.resources.memory_swap_limit_in_bytes", fault.Invalid},
		{"one share", res(&cri.LinuxContainerResources{CpuShares: 1}), "linux.resources.cpu_shares", fault.Invalid},
		{"negative memory", res(&cri.LinuxContainerResources{MemoryLimitInBytes: -2}), "linux.resources.memory_limit_in_bytes", fault.Invalid},
		{"swap below memory", res(&cri.LinuxContainerResources{MemoryLimitInBytes: 2, MemorySwapLimitInBytes: 1}), "linux.resources.memory_swap_limit_in_bytes", fault.Invalid},
		{"score", res(&cri.LinuxContainerResources{OomScoreAdj: 1001}), "linux.resources.oom_score_adj", fault.Invalid},
		{"cpuset", res(&cri.LinuxContainerResources{CpusetCpus: "0\n1"}), "linux.resources.cpuset_cpus", fault.Invalid},
		{"page size", res(&cri.LinuxContainerResources{HugepageLimits: []*cri.HugepageLimit{{PageSize: "../2MB"}}}), "linux.resources.hugepage_limits.page_size", fault.Invalid},
		{"unified path", res(&cri.LinuxContainerResources{Unified: map[string]string{"memory./../x": "1"}}), "linux.resources.unified", fault.Invalid},
		{"unified processes", res(&cri.LinuxContainerResources{Unified: map[string]string{"cgroup.procs": "1"}}), "linux.resources.unified", fault.Invalid},
		{"unified file that acts", res(&cri.LinuxContainerResources{Unified: map[string]string{"memory.reclaim": "1G"}}), "linux.resources.unified", fault.Invalid},
		{"unified partition", res(&cri.LinuxContainerResources{Unified: map[string]string{"cpuset.cpus.partition": "root"}}), "linux.resources.unified", fault.Invalid},
		{"unified trigger", res(&cri.LinuxContainerResources{Unified: map[string]string{"io.pressure": "some 1 2"}}), "linux.resources.unified", fault.Invalid},
		{"unified line break", res(&cri.LinuxContainerResources{Unified: map[string]string{"io.max": "a\nb"}}), "linux.resources.unified", fault.Invalid},
	} {
		refused.check(t)
	}
}

func TestValidateSecurity(t *testing.T) {
	type c = *cri.ContainerConfig
	sec := func(c c) *cri.LinuxContainerSecurityContext { return c.Linux.SecurityContext }
	for _, refused := range []refusedContainer{
		{"privileged in an unprivileged pod", func(c c) { sec(c).Privileged = true }, "linux.security_context.privileged", fault.Invalid},
		{"unknown capability", func(c c) { sec(c).Capabilities = &cri.Capability{DropCapabilities: []string{"FLY"}} }, "linux.security_context.capabilities.drop_capabilities", fault.Invalid},
		{"network TARGET", func(c c) { sec(c).NamespaceOptions.Network = cri.NamespaceMode_TARGET }, "linux.security_context.namespace_options.network", fault.Invalid},
		{"TARGET without a target", func(c c) { sec(c).NamespaceOptions.Pid = cri.NamespaceMode_TARGET }, "linux.security_context.namespace_options.target_id", fault.Invalid},
		{"user namespace", func(c c) {
			sec(c).NamespaceOptions.UsernsOptions = &cri.UserNamespace{Uids: []*cri.IDMapping{{Length: 1}}}
		}, "linux.security_context.namespace_options.userns_options.uids[0].host_id", fault.Invalid},
		{"seccomp path", func(c c) { sec(c).SeccompProfilePath = "localhost/p" }, "linux.security_context.seccomp_profile_path", fault.Invalid},
		{"seccomp word", func(c c) { sec(c).SeccompProfilePath = "off" }, "linux.security_context.seccomp_profile_path", fault.Invalid},
		{"apparmor word", func(c c) { sec(c).ApparmorProfile = "mine" }, "linux.security_context.apparmor_profile", fault.Invalid},
		{"apparmor name", func(c c) {
			sec(c).Apparmor = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "a\nb"}
		}, "linux.security_context.apparmor.localhost_ref", fault.Invalid},
		{"selinux", func(c c) { sec(c).SelinuxOptions = &cri.SELinuxOption{Type: "t:level"} }, "linux.security_context.selinux_options.type", fault.Invalid},
		{"masked path of a process", func(c c) { sec(c).MaskedPaths = []string{"/proc/self/fd"} }, "linux.security_context.masked_paths", fault.Invalid},
		{"masked path", func(c c) { sec(c).MaskedPaths = []string{"proc"} }, "linux.security_context.masked_paths", fault.Invalid},
		{"groups policy", func(c c) { sec(c).SupplementalGroupsPolicy = 5 }, "linux.security_context.supplemental_groups_policy", fault.Invalid},
	} {
		refused.check(t)
	}
}

func TestValidateSandbox(t *testing.T) {
	type s = *cri.PodSandboxConfig
	for _, tc := range []struct {
		name   string
		change func(s)
		field  string
	}{
		{"no metadata", func(s s) { s.Metadata = nil }, "metadata"},
		{"no name", func(s s) { s.Metadata.Name = "" }, "metadata.name"},
		{"path in the namespace", func(s s) { s.Metadata.Namespace = "a/b" }, "metadata.namespace"},
		{"another argument in the uid", func(s s) { s.Metadata.Uid = "a;K8S_POD_NAME=b" }, "metadata.uid"},
		{"pair in the namespace", func(s s) { s.Metadata.Namespace = "a=b" }, "metadata.namespace"},
		{"path in the uid", func(s s) { s.Metadata.Uid = ".." }, "metadata.uid"},
		{"line break in the host name", func(s s) { s.Hostname = "a\nb" }, "hostname"},
		{"long host name", func(s s) { s.Hostname = strings.Repeat("a", 65) }, "hostname"},
		{"relative log directory", func(s s) { s.LogDirectory = "var/log" }, "log_directory"},
		{"dots in the log directory", func(s s) { s.LogDirectory = "/var/log/../../etc" }, "log_directory"},
		{"server", func(s s) { s.DnsConfig = &cri.DNSConfig{Servers: []string{"10.0.0.1\nsearch evil"}} }, "dns_config.servers[0]"},
		{"search", func(s s) { s.DnsConfig = &cri.DNSConfig{Searches: []string{"a", "b\nnameserver 6.6.6.6"}} }, "dns_config.searches[1]"},
		{"option", func(s s) { s.DnsConfig = &cri.DNSConfig{Options: []string{"a b"}} }, "dns_config.options[0]"},
		{"host port", func(s s) { s.PortMappings = []*cri.PortMapping{{HostPort: 65536}} }, "port_mappings[0].host_port"},
		{"container port", func(s s) { s.PortMappings = []*cri.PortMapping{{}, {ContainerPort: -1}} }, "port_mappings[1].container_port"},
		{"host IP", func(s s) { s.PortMappings = []*cri.PortMapping{{HostIp: "localhost"}} }, "port_mappings[0].host_ip"},
		{"protocol", func(s s) { s.PortMappings = []*cri.PortMapping{{Protocol: 9}} }, "port_mappings[0].protocol"},
		{"group alone", func(s s) { s.Linux.SecurityContext.RunAsGroup = id(1) }, "linux.security_context.run_as_group"},
		{"uid", func(s s) { s.Linux.SecurityContext.RunAsUser = id(1<<32 - 1) }, "linux.security_context.run_as_user"},
		{"network CONTAINER", func(s s) {
			s.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Network: cri.NamespaceMode_CONTAINER}
		}, "linux.security_context.namespace_options.network"},
		{"pid TARGET", func(s s) {
			s.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Pid: cri.NamespaceMode_TARGET, TargetId: "c0"}
		}, "linux.security_context.namespace_options.pid"},
		{"overhead", func(s s) { s.Linux.Overhead = &cri.LinuxContainerResources{CpuPeriod: -1} }, "linux.overhead.cpu_period"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := fixture()
			tc.change(in.Sandbox)
			wantField(t, ValidateSandbox(in.Sandbox), tc.field, fault.Invalid)
		})
	}
	in := fixture()
	in.Sandbox.Linux, in.Sandbox.LogDirectory, in.Sandbox.Hostname = nil, "/var/log/pods/shop_web_uid-1/", ""
	if err := ValidateSandbox(in.Sandbox); err != nil {
		t.Errorf("a simple pod: %v", err)
	}
	if err := ValidateSandbox(nil); err == nil {
		t.Error("no config, no error")
	}
}

func wantField(t *testing.T, err error, field string, kind fault.Kind) {
	t.Helper()
	fe, ok := errors.AsType[*refusal.FieldError](err)
	if !ok {
		t.Fatalf("error %v, want a FieldError", err)
	}
	if fe.Field != field || fault.KindOf(err) != kind {
		t.Errorf("field %q of kind %q, want %q, %q: %v", fe.Field, fault.KindOf(err), field, kind, err)
	}
	if strings.ContainsAny(err.Error(), "\n\x00") {
		t.Errorf("the error has control characters: %q", err)
	}
}
