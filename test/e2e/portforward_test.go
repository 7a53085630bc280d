package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	clientspdy "k8s.io/client-go/transport/spdy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// forwardPort forwards a pod's port with Kubernetes' own client, until the test's end.
func forwardPort(h *Harness, pod *Pod, port int) (address string, ended <-chan error) {
	h.t.Helper()
	answer, err := h.Runtime.PortForward(h.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: pod.ID, Port: []int32{int32(port)}})
	if err != nil {
		h.t.Fatal(err)
	}
	u, err := url.Parse(answer.Url)
	if err != nil {
		h.t.Fatal(err)
	}
	transport, upgrader, err := clientspdy.RoundTripperFor(&rest.Config{})
	if err != nil {
		h.t.Fatal(err)
	}
	dialer := clientspdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, u)
	stop, ready, end := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	f, err := portforward.NewForStreaming(dialer, []string{fmt.Sprintf("0:%d", port)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		h.t.Fatal(err)
	}
	go func() { end <- f.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-end:
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { close(stop) })
	ports, err := f.GetPorts()
	if err != nil {
		h.t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local), end
}

// echoing runs the tester's echo, and waits until it listens: Kubernetes' client gives a connection up
// once a port has refused.
func echoing(h *Harness, pod *Pod, name, address string) {
	h.t.Helper()
	config := h.TesterConfig(name, "echo", address)
	pod.Run(config)
	h.Eventually(name+" listens", func() bool { return len(pod.Log(config)) > 0 })
}

// echoed sends a text, ends its half, and returns the answer.
func echoed(address, text string) (string, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// Ports of a pod's loopback, by IPv4 and IPv6, and of the node's for a pod on the node's
// network. Connections are many, half closed, and one that breaks ends alone
// (containerd#9875).
func TestPortForward(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("forward"))
	echoing(h, pod, "v4", "127.0.0.1:7001")
	echoing(h, pod, "v6", "[::1]:7002")
	onNode := h.PodConfig("on-node")
	onNode.Linux.SecurityContext = &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_NODE}}
	nodePod := h.RunPod(onNode)
	nodePort := 20000 + h.Number
	echoing(h, nodePod, "node", fmt.Sprintf("127.0.0.1:%d", nodePort))
	for name, c := range map[string]struct {
		pod  *Pod
		port int
	}{"IPv4": {pod, 7001}, "IPv6": {pod, 7002}, "node's network": {nodePod, nodePort}} {
		t.Run(name, func(t *testing.T) { forwardMany(h.In(t), c.pod, c.port) })
	}
	t.Run("nobody listens", func(t *testing.T) {
		address, ended := forwardPort(h.In(t), pod, 7003)
		if answer, _ := echoed(address, "hello"); answer != "" {
			t.Errorf("%q", answer)
		}
		if err := <-ended; err == nil {
			t.Error("the client learned nothing")
		}
	})
	t.Run("refused", func(t *testing.T) {
		h := h.In(t)
		stopped := h.RunPod(h.PodConfig("stopped"))
		stopped.Stop()
		for _, c := range []struct {
			pod  string
			port int32
			code codes.Code
			word string
		}{
			{unknownID, 80, codes.NotFound, "pod_sandbox_id"}, {"", 80, codes.InvalidArgument, "pod_sandbox_id"},
			{stopped.ID, 80, codes.FailedPrecondition, "pod_sandbox_id"},
			{pod.ID, 0, codes.InvalidArgument, "port"}, {pod.ID, 65536, codes.InvalidArgument, "port"}, {pod.ID, -1, codes.InvalidArgument, "port"},
		} {
			_, err := h.Runtime.PortForward(h.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: c.pod, Port: []int32{c.port}})
			h.Refused(err, c.code, c.word)
		}
	})
	t.Run("pod ends", func(t *testing.T) {
		h := h.In(t)
		short := h.RunPod(h.PodConfig("short"))
		echoing(h, short, "c", "127.0.0.1:7004")
		address, _ := forwardPort(h, short, 7004)
		if answer, err := echoed(address, "hello"); answer != "hello" {
			t.Errorf("%q, %v", answer, err)
		}
		short.Stop()
		if answer, _ := echoed(address, "hello"); answer != "" {
			t.Errorf("a stopped pod answers %q", answer)
		}
	})
}

func forwardMany(h *Harness, pod *Pod, port int) {
	address, ended := forwardPort(h, pod, port)
	if answer, err := echoed(address, "hello"); answer != "hello" {
		h.t.Errorf("%q, %v", answer, err)
	}
	if answer, _ := echoed(address, "reset"); answer != "" {
		h.t.Errorf("%q", answer)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			text := strings.Repeat(fmt.Sprint(i), 200000)
			if answer, err := echoed(address, text); err != nil || answer != text {
				h.t.Errorf("connection %d: %d bytes of %d, %v", i, len(answer), len(text), err)
			}
		})
	}
	all.Wait()
	select {
	case err := <-ended:
		h.t.Errorf("the port-forward ended: %v", err)
	default:
	}
}
