package kubelet

import (
	"testing"

	"github.com/stele-runtime/stele/test/e2e"
)

// TestKubelet runs the checks on one node: those that can first, side by side, then those that
// disturb others.
func TestKubelet(t *testing.T) {
	n := newNode(t, e2e.Options{Image: `pinned_images = ["*/kubelet/pinned:*"]`})
	t.Run("pods", func(t *testing.T) {
		for _, c := range checks {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(n.in(t))
			})
		}
	})
	for _, c := range disturbing {
		t.Run(c.name, func(t *testing.T) { c.run(n.in(t)) })
	}
}

// TestCluster runs the checks that need an API server.
func TestCluster(t *testing.T) {
	c := newCluster(t)
	t.Run("pods", func(t *testing.T) {
		for _, check := range clusterChecks {
			t.Run(check.name, func(t *testing.T) {
				t.Parallel()
				check.run(c.in(t))
			})
		}
	})
	for _, check := range disturbingCluster {
		t.Run(check.name, func(t *testing.T) { check.run(c.in(t)) })
	}
}

type check struct {
	name string
	run  func(*node)
}

// checks are on pods of their own.
var checks = []check{
	{"static pod is Running and has its address", running},
	{"container that ends is restarted and backed off", restarts},
	{"pod that is done has Succeeded", completes},
	{"liveness probe by exec", liveness},
	{"exec probe that takes too long", execTimeout},
	{"readiness probes by HTTP and TCP", readiness},
	{"startup probe by gRPC", startup},
	{"postStart and preStop", hooks},
	{"init containers and sidecars in order", inOrder},
	{"logs, previous, followed, since and tail", logs},
	{"log rotation under load", rotation},
	{"exec by SPDY", spdy.exec},
	{"exec by WebSocket", websocket.exec},
	{"attach by SPDY", spdy.attach},
	{"attach by WebSocket", websocket.attach},
	{"port-forward by SPDY", spdy.portForward},
	{"port-forward by WebSocket", websocket.portForward},
	{"emptyDir on disk and in memory", emptyDirs},
	{"emptyDir of huge pages", hugePages},
	{"hostPath and subPath", hostPaths},
	{"downward API", downward},
	{"image volumes", imageVolumes},
	{"shared PID namespace", sharedPID},
	{"host network, PID and IPC", hostNamespaces},
	{"hostPort", hostPort},
	{"user namespace", userNamespace},
	{"hostname, hosts and resolv.conf", hostnames},
	{"security context", securityContext},
	{"termination messages", terminationMessages},
	{"graceful deletion", gracefulDeletion},
	{"deletion with grace period 0", graceZero},
	{"OOMKilled", oomKilled},
	{"QoS cgroups and limits in the kernel", qos},
	{"summary, resource and cAdvisor metrics", metrics},
	{"evented PLEG and lists in pages", lists},
}

// disturbing checks are on the whole node.
var disturbing = []check{
	{"kubelet restarted", kubeletRestarted},
	{"Stele killed", steleKilled},
	{"Stele killed while pods start", steleKilledStarting},
	{"monitor killed", monitorKilled},
	{"image garbage collection", imageGC},
	{"sixty pods at once", sixty},
}

type clusterCheck struct {
	name string
	run  func(*cluster)
}

var clusterChecks = []clusterCheck{
	{"node with its handlers, features and images", nodeObject},
	{"files of the page on kubeadm", kubeadmPage},
	{"RuntimeClass with two handlers", runtimeClasses},
	{"ephemeral container that targets another", debug},
	{"resize of a container in place", resizeContainer},
	{"resize of a pod in place", resizePod},
	{"eviction of a pod that uses too much disk", evicted},
	{"eviction by the API", drained},
	{"projected volumes that change", projected},
	{"deletion by force", forced},
	{"deletion that waits for the pod", deleted},
	{"image that cannot be pulled", pulls},
}

// disturbingCluster are on the whole node.
var disturbingCluster = []clusterCheck{
	{"eviction by a node without memory", pressed},
	{"Stele killed while it creates a container", steleKilledCreating},
}
