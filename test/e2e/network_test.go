package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/audit"
)

func TestPodsReachEachOther(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	server := h.RunPod(h.PodConfig("server"))
	server.Run(h.TesterConfig("c", "serve", ":8080"))
	h.Reachable(server.IP() + ":8080").Close()
	client := h.RunPod(h.PodConfig("client"))
	id := client.Run(h.TesterConfig("c", "term", "0"))
	if got := h.Exec(id, "/tester", "get", "http://"+server.IP()+":8080"); !strings.Contains(got, `"Hostname":"server"`) {
		t.Errorf("the server said %q", got)
	}
	// Loopback is up in both.
	client.Run(h.TesterConfig("local", "serve", "127.0.0.1:9090"))
	h.Eventually("a container reaches another of its pod", func() bool {
		return h.ExecSync(id, "/tester", "get", "http://127.0.0.1:9090").ExitCode == 0
	})
}

func TestPortMappings(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{Plugins: []map[string]any{{
		"type": "portmap", "capabilities": map[string]bool{"portMappings": true}, "snat": true,
	}}})
	config := h.PodConfig("ports")
	port := int32(20000 + h.Number)
	config.PortMappings = []*runtimeapi.PortMapping{
		{Protocol: runtimeapi.Protocol_TCP, ContainerPort: 8080, HostPort: port, HostIp: h.Gateway()},
		// Without a port of the node nothing is mapped.
		{Protocol: runtimeapi.Protocol_TCP, ContainerPort: 9090},
	}
	pod := h.RunPod(config)
	pod.Run(h.TesterConfig("server", "serve", ":8080"))
	h.Reachable(pod.IP() + ":8080").Close()

	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(fmt.Sprintf("http://%s:%d/", h.Gateway(), port))
	if err != nil {
		t.Fatalf("the mapped port: %v", err)
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || !strings.Contains(string(body), `"Hostname":"ports"`) {
		t.Errorf("the mapped port said %q, %v", body, err)
	}
	// Another pod reaches it, too: hairpin and masquerade.
	other := h.RunPod(h.PodConfig("other"))
	id := other.Run(h.TesterConfig("c", "term", "0"))
	h.Exec(id, "/tester", "get", fmt.Sprintf("http://%s:%d/", h.Gateway(), port))

	pod.Remove()
	if rules := firewallRules(t, h); len(rules) != 0 {
		t.Errorf("rules are left: %q", rules)
	}
}

func firewallRules(t *testing.T, h *Harness) []string {
	t.Helper()
	snapshot, err := audit.Take(h.Scope)
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	for trace := range snapshot {
		if trace.Kind == audit.Firewall {
			rules = append(rules, trace.What)
		}
	}
	return rules
}

func TestSeveralAddresses(t *testing.T) {
	t.Parallel()
	second := func(number int) string { return fmt.Sprintf("fd00:10:85:%d::/64", number) }
	h := New(t, programs, Options{Ranges: func(number int) []string { return []string{second(number)} }})
	pod := h.RunPod(h.PodConfig("two"))
	network := pod.Status().Status.Network
	if len(network.AdditionalIps) != 1 {
		t.Fatalf("the pod's network is %v, want a second address", network)
	}
	if ip, err := netip.ParseAddr(network.AdditionalIps[0].Ip); err != nil || !netip.MustParsePrefix(second(h.Number)).Contains(ip) {
		t.Errorf("the second address is %q", network.AdditionalIps[0].Ip)
	}
	pod.Run(h.TesterConfig("server", "serve", ":8080"))
	h.Reachable(network.Ip + ":8080").Close()
	h.Reachable("[" + network.AdditionalIps[0].Ip + "]:8080").Close()
}

// A network that cannot be set up fails the pod with the plugin's message, leaves nothing,
// and keeps the name free; the plugins' earlier work is undone.
func TestNetworkSetupFails(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	failures := filepath.Join(h.Share, "failures")
	h.WriteNetwork(map[string]any{"type": "flaky", "failures": failures})
	h.write(failures, "ADD")
	config := h.PodConfig("unlucky")
	var err error
	h.Eventually("the new configuration is used", func() bool {
		var id string
		if id, err = h.TryRunPod(config); err == nil {
			h.removePod(id)
		}
		return err != nil
	})
	if !strings.Contains(err.Error(), "flaky was told to fail ADD") {
		t.Errorf("RunPodSandbox says %q, want the plugin's words", err)
	}
	if events := h.Stele("events", "-o", "wide"); !strings.Contains(events, "NetworkAttachFailed") {
		t.Errorf("the events don't tell that the network failed:\n%s", lastLines(events, 30))
	}
	h.Audit()
	h.write(failures, "")
	pod := h.RunPod(config)
	pod.Remove()
	h.Audit()
}

// When the network cannot be torn down, stopping and removing the pod still succeed, as the
// kubelet needs; the rest is owed, and done later.
func TestNetworkTeardownFails(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	failures := filepath.Join(h.Share, "failures")
	h.write(failures, "")
	h.WriteNetwork(map[string]any{"type": "flaky", "failures": failures})
	// The daemon reads its configuration at the latest when it starts.
	h.Daemon.Stop()
	h.Daemon.Start()
	config := h.PodConfig("sticky")
	pod := h.RunPod(config)
	ip := pod.IP()
	h.write(failures, "DEL")
	pod.Remove()
	if _, err := os.Stat(filepath.Join(h.Scope.IPAM[0], h.Bridge, ip)); err != nil {
		t.Fatalf("the address is free although the plugins failed: %v", err)
	}
	// The name is free, although the old pod still owes something.
	if second := h.RunPod(config); second.ID == pod.ID {
		t.Error("the same pod came back")
	}
	h.write(failures, "")
	h.Eventually("the address is given back", func() bool {
		_, err := os.Stat(filepath.Join(h.Scope.IPAM[0], h.Bridge, ip))
		return os.IsNotExist(err)
	})
}

// annotated is a plugin that does what pods' annotations say.
var annotated = map[string]any{"type": "flaky", "capabilities": map[string]bool{"io.kubernetes.cri.pod-annotations": true}}

// Plugins that wait for something in some pods hold up no other.
func TestPluginsThatWaitHoldUpNobody(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{Plugins: []map[string]any{annotated}})
	file := filepath.Join(h.Share, "go-on")
	var all sync.WaitGroup
	defer func() {
		h.write(file, "")
		all.Wait()
	}()
	waiting := runtime.GOMAXPROCS(0) + 2
	for i := range waiting {
		config := h.PodConfig(fmt.Sprint("waits-", i))
		config.Annotations = map[string]string{"flaky/waits-for": file}
		all.Go(func() {
			if _, err := h.TryRunPod(config); err != nil {
				t.Error(err)
			}
		})
	}
	h.Eventually("all plugins wait", func() bool { return flakyPlugins(t, h) == waiting })
	h.RunPod(h.PodConfig("other")).Remove()
	if left := flakyPlugins(t, h); left != waiting {
		t.Errorf("%d plugins wait after the other pod's life, want %d: it may have waited for them", left, waiting)
	}
}

// flakyPlugins counts the processes of the test's plugin.
func flakyPlugins(t *testing.T, h *Harness) int {
	t.Helper()
	programs, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	running := 0
	for _, program := range programs {
		if path, err := os.Readlink(program); err == nil && path == filepath.Join(h.Programs.PluginDir, "flaky") {
			running++
		}
	}
	return running
}

// Only addresses of the pod's own interfaces are the pod's.
func TestAddressOfTheNodesSide(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{Plugins: []map[string]any{annotated}})
	config := h.PodConfig("web")
	config.Annotations = map[string]string{"flaky/address": "192.0.2.1/24"}
	pod := h.RunPod(config)
	if network := pod.Status().Status.Network; !strings.HasPrefix(network.Ip, fmt.Sprintf("10.85.%d.", h.Number)) || len(network.AdditionalIps) != 0 {
		t.Errorf("the pod's network is %v", network)
	}
	record, err := os.ReadFile(filepath.Join(h.Root, "cni", "attachments", pod.ID+".json"))
	if err != nil || !strings.Contains(string(record), "192.0.2.1/24") {
		t.Errorf("the plugin's result does not have the address, so that this test finds nothing: %v", err)
	}
}

// A network of layer 2 gives a pod no address. The pod is ready; its status has none.
func TestPodWithoutAddresses(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	h.write(filepath.Join(h.ConfDir, "10-e2e.conflist"), fmt.Sprintf(
		`{"cniVersion":"1.0.0","name":%q,"plugins":[{"type":"bridge","bridge":%q}]}`, h.Bridge, h.Bridge))
	h.Daemon.Stop()
	h.Daemon.Start() // it reads its configuration at the latest then
	pod := h.RunPod(h.PodConfig("bare"))
	check := func() {
		t.Helper()
		got := pod.Status().Status
		if got.State != runtimeapi.PodSandboxState_SANDBOX_READY || got.Network == nil || got.Network.Ip != "" || len(got.Network.AdditionalIps) != 0 {
			t.Errorf("the pod is %v, its network %v", got.State, got.Network)
		}
	}
	check()
	if got := h.Exec(pod.Run(h.ContainerConfig("c")), "cat", "/proc/net/dev"); !strings.Contains(got, "eth0") {
		t.Errorf("the pod has the interfaces %q", got)
	}
	h.Daemon.Kill9()
	h.Daemon.Start()
	check()
	pod.Remove()
}

// A sysctl of the pod's interface is there once the interface is.
func TestSysctlOfAnInterface(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	config := h.PodConfig("sysctl")
	config.Linux.Sysctls = map[string]string{"net.ipv4.conf.eth0.rp_filter": "2", "net.ipv4.conf.all.rp_filter": "0"}
	id := h.RunPod(config).Run(h.ContainerConfig("c"))
	if got := h.Exec(id, "cat", "/proc/sys/net/ipv4/conf/eth0/rp_filter"); got != "2" {
		t.Errorf("the sysctl is %q, want 2", got)
	}
}

// A sysctl that is refused after the network is attached fails the pod, and the network is
// detached again.
func TestSysctlOfAnInterfaceFails(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	for key, value := range map[string]string{"net.ipv4.conf.eth0.rp_filter": "many", "net.ipv4.conf.eth7.rp_filter": "1"} {
		config := h.PodConfig("unlucky")
		config.Linux.Sysctls = map[string]string{key: value}
		_, err := h.TryRunPod(config)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), value) {
			t.Errorf("%s=%s: %v, want InvalidArgument with both", key, value, err)
		}
		h.Audit() // nothing is attached
		config.Linux.Sysctls = nil
		h.RunPod(config).Remove() // the name is free
	}
}

// At its start the daemon has the plugins collect unknown attachments: it gives them
// exactly the valid ones. (host-local 1.9 ignores GC.)
func TestForeignAttachmentsAreCollected(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	collected := filepath.Join(h.Share, "collected")
	h.WriteNetwork(map[string]any{"type": "flaky", "collected": collected})
	pod, gone := h.RunPod(h.PodConfig("known")), h.RunPod(h.PodConfig("gone"))
	gone.Remove()
	h.Daemon.Kill9()
	if err := os.RemoveAll(collected); err != nil {
		t.Fatal(err)
	}
	h.Daemon.Start()
	var told struct {
		Valid []struct{ ContainerID, IfName string } `json:"cni.dev/valid-attachments"`
	}
	h.Eventually("the plugins are asked to collect", func() bool {
		content, err := os.ReadFile(collected)
		return err == nil && json.Unmarshal(content, &told) == nil
	})
	if len(told.Valid) != 1 || told.Valid[0].ContainerID != pod.ID || told.Valid[0].IfName != "eth0" {
		t.Errorf("the plugins were told that %v are valid, want the one of %s", told.Valid, pod.ID)
	}
	if _, err := os.Stat(filepath.Join(h.Scope.IPAM[0], h.Bridge, pod.IP())); err != nil {
		t.Errorf("the address of a pod that runs was given back: %v", err)
	}
}

// Others can enter the pinned namespace.
func TestNamespaceIsPinned(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("pinned"))
	snapshot, err := audit.Take(h.Scope)
	if err != nil {
		t.Fatal(err)
	}
	for trace, details := range snapshot {
		if trace.Kind != audit.Mount || details[0] != "nsfs" {
			continue
		}
		out, err := exec.Command("nsenter", "--net="+trace.What, "ip", "-o", "-4", "address").CombinedOutput()
		if err == nil && strings.Contains(string(out), pod.IP()+"/") {
			return
		}
	}
	t.Errorf("no pinned network namespace has the address %s", pod.IP())
}
