package e2e

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestNamespaces(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	t.Run("of a pod", func(t *testing.T) { namespacesOfAPod(t, h.In(t)) })
	t.Run("shared PID", func(t *testing.T) { namespacesSharedPID(t, h.In(t)) })
	t.Run("of the node", func(t *testing.T) { namespacesOfTheNode(t, h.In(t)) })
}

// ownNamespace returns a namespace of the test, which is the node's.
func ownNamespace(t *testing.T, name string) string {
	t.Helper()
	link, err := os.Readlink("/proc/self/ns/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return link
}

func namespacesOfAPod(t *testing.T, h *Harness) {
	pod := h.RunPod(h.PodConfig("ns"))
	// Both run while they are compared: the kernel reuses a namespace's number.
	first, second := pod.Run(h.TesterConfig("a", "term", "0")), pod.Run(h.TesterConfig("b", "term", "0"))
	a, b := h.reportOf(first), h.reportOf(second)
	for _, shared := range []string{"net", "ipc", "uts"} {
		if a.Namespaces[shared] != b.Namespaces[shared] || a.Namespaces[shared] == ownNamespace(t, shared) {
			t.Errorf("namespace %s: %s and %s, the node's is %s", shared, a.Namespaces[shared], b.Namespaces[shared], ownNamespace(t, shared))
		}
	}
	for _, private := range []string{"pid", "mnt"} {
		if a.Namespaces[private] == b.Namespaces[private] || a.Namespaces[private] == ownNamespace(t, private) {
			t.Errorf("namespace %s is not private: %s and %s", private, a.Namespaces[private], b.Namespaces[private])
		}
	}
}

func namespacesSharedPID(t *testing.T, h *Harness) {
	config := h.PodConfig("pid")
	config.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
	pod := h.RunPod(config)
	a := pod.Run(h.ContainerConfig("a", "sleep", "111111"))
	b := pod.Run(h.ContainerConfig("b", "sleep", "222222"))
	seen := h.Exec(b, "ps", "-o", "pid,args")
	for _, process := range []string{"sleep 111111", "sleep 222222"} {
		if !strings.Contains(seen, process) {
			t.Errorf("b doesn't see %q:\n%s", process, seen)
		}
	}
	for line := range strings.Lines(seen) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "1" && strings.Contains(line, "sleep") {
			t.Errorf("a container is the namespace's init: %s", line)
		}
	}
	// Orphans are reaped by the namespace's init.
	h.Exec(a, "sh", "-c", "(sleep 0.1 &)")
	h.Eventually("the orphan is reaped", func() bool {
		return !strings.Contains(h.Exec(b, "ps", "-o", "stat,args"), "Z ")
	})
	// One container's end must not end the other.
	h.StopContainer(a, 0)
	if state := h.ContainerStatus(b).State; state != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("b is %s after a was stopped", state)
	}
	if got := h.ContainerStatus(a).ExitCode; got != 137 {
		t.Errorf("a ended with %d, want 137", got)
	}
}

func namespacesOfTheNode(t *testing.T, h *Harness) {
	config := h.PodConfig("host")
	config.Hostname = ""
	config.Linux.SecurityContext.NamespaceOptions = &runtimeapi.NamespaceOption{
		Network: runtimeapi.NamespaceMode_NODE, Pid: runtimeapi.NamespaceMode_NODE, Ipc: runtimeapi.NamespaceMode_NODE,
	}
	pod := h.RunPod(config)
	r := pod.report(h, h.TesterConfig("c", "report"))
	for _, ns := range []string{"net", "pid", "ipc", "uts"} {
		if r.Namespaces[ns] != ownNamespace(t, ns) {
			t.Errorf("namespace %s is %s, want the node's %s", ns, r.Namespaces[ns], ownNamespace(t, ns))
		}
	}
	if ip := pod.IP(); ip != "" {
		t.Errorf("a pod in the node's network has the address %s of its own", ip)
	}
}

// A pod in the node's network needs no CNI; a port that it opens is the node's.
func TestHostNetwork(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	config := h.PodConfig("hostnet")
	config.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
	pod := h.RunPod(config)
	address := "127.0.0.1:" + strconv.Itoa(port)
	pod.Run(h.TesterConfig("server", "serve", address))
	h.Reachable(address).Close()
}
