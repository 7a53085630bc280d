package e2e

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/hostport"
	"github.com/stele-runtime/stele/test/audit"
)

// onPort asks for a port of the node that no other harness has.
func onPort(h *Harness, config *runtimeapi.PodSandboxConfig, hostIP string) (port int32) {
	port = int32(21000 + h.Number)
	config.PortMappings = []*runtimeapi.PortMapping{{Protocol: runtimeapi.Protocol_TCP, ContainerPort: 8080, HostPort: port, HostIp: hostIP}}
	return port
}

// host is the name of the pod that serves a port of the node.
func host(ip string, port int32) (string, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + net.JoinHostPort(ip, fmt.Sprint(port)))
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	_, name, _ := strings.Cut(string(body), `"Hostname":"`)
	name, _, _ = strings.Cut(name, `"`)
	return name, nil
}

func wantHost(h *Harness, ip string, port int32, want string) {
	h.t.Helper()
	if got, err := host(ip, port); err != nil || got != want {
		h.t.Errorf("%s:%d is served by %q, %v, want %q", ip, port, got, err, want)
	}
}

// mappedOf are the mappings in the kernel that belong to a pod.
func mappedOf(h *Harness, pod string) (mapped []string) {
	h.t.Helper()
	snapshot, err := audit.Take(h.Scope)
	if err != nil {
		h.t.Fatal(err)
	}
	for trace := range snapshot {
		if trace.Kind == audit.HostPort && strings.Contains(trace.What, pod) {
			mapped = append(mapped, trace.What)
		}
	}
	return mapped
}

// Where no plugin maps ports, Stele does: from the node, at 127.0.0.1 too, from other pods and
// from the pod itself; across a crash of the daemon; and until the pod is stopped.
func TestHostPorts(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	config := h.PodConfig("ports")
	port := onPort(h, config, "")
	pod := h.RunPod(config)
	pod.Run(h.TesterConfig("server", "serve", ":8080"))
	h.Reachable(pod.IP() + ":8080").Close()
	wantHost(h, h.Gateway(), port, "ports")
	wantHost(h, "127.0.0.1", port, "ports")
	itself := pod.Run(h.TesterConfig("itself", "term", "0"))
	other := h.RunPod(h.PodConfig("other"))
	for name, id := range map[string]string{"itself": itself, "another pod": other.Run(h.TesterConfig("c", "term", "0"))} {
		if got := h.Exec(id, "/tester", "get", fmt.Sprintf("http://%s:%d/", h.Gateway(), port)); !strings.Contains(got, `"Hostname":"ports"`) {
			t.Errorf("to %s the port said %q", name, got)
		}
	}
	if events := h.Stele("events", "-o", "wide", pod.ID); !strings.Contains(events, "HostPortsMapped") || !strings.Contains(events, fmt.Sprintf("%d/tcp to port 8080", port)) {
		t.Errorf("the events say nothing of the port:\n%s", events)
	}
	if events := h.Stele("events", "-o", "wide", other.ID); strings.Contains(events, "HostPortsMapped") {
		t.Errorf("a pod without host ports has some:\n%s", events)
	}

	h.Daemon.Kill9()
	wantHost(h, h.Gateway(), port, "ports")
	h.Daemon.Start()
	wantHost(h, h.Gateway(), port, "ports")

	// Another pod is refused, and leaves nothing, as long as this one has the port.
	second := h.PodConfig("second")
	onPort(h, second, "")
	_, err := h.TryRunPod(second)
	h.Refused(err, codes.Unavailable, fmt.Sprintf("%d/tcp", port), "is mapped to pod "+pod.ID)
	wantHost(h, h.Gateway(), port, "ports")
	pod.Stop()
	if left := mappedOf(h, pod.ID); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	h.RunPod(second).Run(h.TesterConfig("server", "serve", ":8080"))
	h.Eventually("the second pod has the port", func() bool {
		name, err := host(h.Gateway(), port)
		return err == nil && name == "second"
	})
}

// A plugin that cannot undo its work does not keep the ports.
func TestHostPortsGoAlthoughDELFails(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	failures := filepath.Join(h.Share, "failures")
	h.write(failures, "")
	h.WriteNetwork(map[string]any{"type": "flaky", "failures": failures})
	h.Daemon.Stop()
	h.Daemon.Start()
	config := h.PodConfig("sticky")
	onPort(h, config, h.Gateway())
	pod := h.RunPod(config)
	if len(mappedOf(h, pod.ID)) == 0 {
		t.Error("nothing is mapped")
	}
	h.write(failures, "DEL")
	pod.Stop()
	if left := mappedOf(h, pod.ID); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	h.write(failures, "")
}

// At its start the daemon unmaps what the log does not know, of its own table.
func TestForeignHostPortsAreCollected(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	config := h.PodConfig("known")
	onPort(h, config, h.Gateway())
	pod := h.RunPod(config)
	h.Daemon.Kill9()
	stray := hostport.New(hostport.Config{Owner: h.Root, Logger: slog.Default()})
	if _, err := stray.Map(t.Context(), hostport.Pod{
		ID: "stray", IPs: []netip.Addr{netip.MustParseAddr(h.Gateway())},
		Ports: []hostport.Port{{Host: uint16(22000 + h.Number), Container: 80, Protocol: hostport.UDP, HostIP: netip.MustParseAddr(h.Gateway())}},
	}); err != nil {
		t.Fatal(err)
	}
	if len(mappedOf(h, "stray")) == 0 {
		t.Fatal("the stray pod has no port")
	}
	h.Daemon.Start()
	if left := mappedOf(h, "stray"); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	if len(mappedOf(h, pod.ID)) == 0 {
		t.Error("the ports of a pod that runs are gone")
	}
}

// What nobody on the node can do for a pod, its events say.
func TestUnservedRequests(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{Config: "[network]\ndisable_hostport_mapping = true\n"})
	config := h.PodConfig("greedy")
	port := onPort(h, config, "")
	config.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "20M"}
	pod := h.RunPod(config)
	pod.Run(h.TesterConfig("server", "serve", ":8080"))
	h.Reachable(pod.IP() + ":8080").Close()
	if got, err := host(h.Gateway(), port); err == nil {
		t.Errorf("the port is served by %q", got)
	}
	events := h.Stele("events", "-o", "wide", pod.ID)
	for _, want := range []string{
		"NetworkRequestsUnserved", "annotation kubernetes.io/ingress-bandwidth: no plugin of network " + h.Bridge + " has the capability bandwidth",
		"annotation kubernetes.io/egress-bandwidth: ", fmt.Sprintf("host port %d/tcp: no plugin of network %s has the capability portMappings", port, h.Bridge),
	} {
		if !strings.Contains(events, want) {
			t.Errorf("the events do not say %q:\n%s", want, events)
		}
	}
	if strings.Contains(events, "HostPortsMapped") {
		t.Errorf("the events say that the port is mapped:\n%s", events)
	}
}
