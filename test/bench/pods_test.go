package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/e2e"
)

const (
	// idleGoal is what a daemon without pods should take at most, and podGoal what it and
	// the monitor together should for each pod with one container, both in KiB of PSS.
	idleGoal, podGoal = 25 << 10, 20
	// cpuGoal is what both should take of one core with ten idle pods, in percent.
	cpuGoal = 0.5
	// settled is how long a process's memory must not shrink before it counts: longer than a
	// daemon takes to give back what it has grown by a little.
	settled = 75 * time.Second
)

// BenchmarkPods prints what daemon and monitor take with real pods of one container, whose
// requests are as large as a kubelet's, while a client lists once a second. An iteration
// is a list of all containers, so that the benchmark has one. The first pod takes more than the
// others: parts of the programs, and what libraries keep of the types that they met.
func BenchmarkPods(b *testing.B) {
	programs, err := e2e.BuildPrograms(b.TempDir(), false)
	if err != nil {
		b.Fatal(err)
	}
	unix.Sync() // an installed program has long been written to the disk
	for _, count := range []int{100, 500} {
		b.Run(fmt.Sprintf("pods=%d", count), func(b *testing.B) {
			h := e2e.New(b, programs, e2e.Options{})
			widenNetwork(b, h)
			claimEvents(b, h)
			end := listEverySecond(b, h)
			idle := settle(b, h)
			runPods(b, h, 1)
			removePods(b, h)
			again := settle(b, h)
			runPods(b, h, count)
			full := settle(b, h)
			end()
			for b.Loop() {
				if answer, err := h.Runtime.ListContainers(h.Context(), &runtimeapi.ListContainersRequest{}); err != nil || len(answer.Containers) != count {
					b.Fatalf("%d containers are listed: %v", len(answer.GetContainers()), err)
				}
			}
			daemon, monitor := (full.daemon-idle.daemon)/float64(count), (full.monitor-idle.monitor)/float64(count)
			b.ReportMetric(idle.daemon, "idle-daemon-KiB")
			b.ReportMetric(idle.monitor, "idle-monitor-KiB")
			b.ReportMetric(daemon, "daemon-KiB/pod")
			b.ReportMetric(monitor, "monitor-KiB/pod")
			b.ReportMetric(daemon+monitor, "KiB/pod")
			b.ReportMetric((full.own-idle.own)/float64(count), "own-KiB/pod")
			b.ReportMetric((full.daemon+full.monitor-again.daemon-again.monitor)/float64(count), "KiB/pod-but-the-first")
			if idle.daemon > idleGoal || daemon+monitor > podGoal {
				b.Logf("the idle daemon takes %.0f KiB, a pod %.1f KiB; the goals are %d and %d", idle.daemon, daemon+monitor, idleGoal, podGoal)
			}
		})
	}
}

// BenchmarkIdle prints which part of one core daemon and monitor take together with ten
// pods that do nothing, in a minute without a client, and in one with a client that lists
// once a second.
func BenchmarkIdle(b *testing.B) {
	programs, err := e2e.BuildPrograms(b.TempDir(), false)
	if err != nil {
		b.Fatal(err)
	}
	h := e2e.New(b, programs, e2e.Options{})
	runPods(b, h, 10)
	for b.Loop() {
		if _, err := h.Runtime.ListContainers(h.Context(), &runtimeapi.ListContainersRequest{}); err != nil {
			b.Fatal(err)
		}
	}
	for _, client := range []string{"no-client", "client"} {
		end := func() {}
		if client == "client" {
			end = listEverySecond(b, h)
		}
		before, begun := spent(b, h), time.Now()
		time.Sleep(time.Minute)
		after, elapsed := spent(b, h), time.Since(begun)
		end()
		share := 100 * (after - before).Seconds() / elapsed.Seconds()
		b.ReportMetric(share, client+"-%")
		if share > cpuGoal {
			b.Logf("daemon and monitor take %.2f %% of a core (%s); the goal is %.1f %%", share, client, cpuGoal)
		}
	}
}

// used is the proportional memory of daemon and monitor, in KiB, and what of both is no file's.
type used struct{ daemon, monitor, own float64 }

// settle waits until neither process gives back memory any more.
func settle(b *testing.B, h *e2e.Harness) used {
	b.Helper()
	monitors := h.MonitorPIDs()
	if len(monitors) != 1 {
		b.Fatalf("the monitors are %v", monitors)
	}
	rests := settleAll(func() []float64 {
		daemon, monitor := rollup(b, h.Daemon.PID()), rollup(b, monitors[0])
		return []float64{daemon["Pss:"], monitor["Pss:"], daemon["Pss_Anon:"] + monitor["Pss_Anon:"]}
	})
	return used{rests[0], rests[1], rests[2]}
}

// settleAll waits until none of some amounts of memory shrinks any more. It returns the median of
// each since then: garbage and pages of a program come and go.
func settleAll(now func() []float64) []float64 {
	least, since := now(), time.Now()
	all := make([][]float64, len(least))
	for time.Since(since) < settled {
		time.Sleep(time.Second)
		for i, u := range now() {
			all[i] = append(all[i], u)
			if u < 0.99*least[i] {
				least[i], since = u, time.Now()
				clear(all)
			}
		}
	}
	medians := make([]float64, len(all))
	for i := range all {
		slices.Sort(all[i])
		medians[i] = all[i][len(all[i])/2]
	}
	return medians
}

// spent is the CPU time of daemon and monitor.
func spent(b *testing.B, h *e2e.Harness) (all time.Duration) {
	b.Helper()
	for _, pid := range append(h.MonitorPIDs(), h.Daemon.PID()) {
		all += ranFor(b, pid)
	}
	return all
}

// listEverySecond asks what a kubelet without events asks.
func listEverySecond(b *testing.B, h *e2e.Harness) (end func()) {
	ctx, cancel := context.WithCancel(b.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		for ctx.Err() == nil {
			_, err := h.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
			if err == nil {
				_, err = h.Runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
			}
			if err != nil && ctx.Err() == nil {
				b.Errorf("list: %v", err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	})
	return func() {
		cancel()
		asking.Wait()
	}
}

// claimEvents takes the pod events that the daemon keeps, for five minutes after its start, for a
// kubelet that comes late. A node at rest has been up for longer.
func claimEvents(b *testing.B, h *e2e.Harness) {
	b.Helper()
	ctx, cancel := context.WithCancel(h.Context())
	defer cancel()
	events, err := h.Runtime.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	if err == nil {
		_, err = events.Header()
	}
	if err != nil {
		b.Fatalf("follow the pods' events: %v", err)
	}
}

// widenNetwork gives the pods more addresses than the harness's 254.
func widenNetwork(b *testing.B, h *e2e.Harness) {
	b.Helper()
	replaceNetwork(b, h, fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "plugins": [{"type": "bridge", "bridge": %[1]q, "isDefaultGateway": true, "hairpinMode": true,
		"ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.%d.0.0/20"}]]}}]}`, h.Bridge, h.Scope.IPAM[0], 100+h.Number%100))
}

// replaceNetwork writes another CNI configuration, for pods that do not run yet.
func replaceNetwork(b *testing.B, h *e2e.Harness, list string) {
	b.Helper()
	path := filepath.Join(h.ConfDir, "10-e2e.conflist")
	if err := os.WriteFile(path+".new", []byte(list), 0o644); err != nil {
		b.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		b.Fatal(err)
	}
}

// runPods runs pods of one container that has written and runs on.
func runPods(b *testing.B, h *e2e.Harness, count int) {
	b.Helper()
	var workers sync.WaitGroup
	written := make([]func() bool, count)
	for i := range count {
		podConfig, config := asKubelet(h.PodConfig(fmt.Sprintf("pod%d", i)), h.ContainerConfig("c", "sh", "-c", "echo a line; exec sleep 100000"))
		pod := h.RunPod(podConfig)
		workers.Wait() // one container is made beside the next pod
		workers.Go(func() {
			id, err := pod.TryCreate(config)
			if err == nil {
				_, err = h.Runtime.StartContainer(h.Context(), &runtimeapi.StartContainerRequest{ContainerId: id})
			}
			if err != nil {
				b.Errorf("run the container of pod %d: %v", i, err)
			}
		})
		written[i] = func() bool { return len(pod.Log(config)) == 1 }
	}
	workers.Wait()
	if b.Failed() {
		b.FailNow()
	}
	for i, line := range written {
		h.Eventually(fmt.Sprintf("the line of pod %d is in its log", i), line)
	}
}

// removePods stops and removes all pods.
func removePods(b *testing.B, h *e2e.Harness) {
	b.Helper()
	answer, err := h.Runtime.ListPodSandbox(h.Context(), &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		b.Fatal(err)
	}
	for _, pod := range answer.Items {
		if _, err := h.Runtime.StopPodSandbox(h.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod.Id}); err != nil {
			b.Fatal(err)
		}
		if _, err := h.Runtime.RemovePodSandbox(h.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod.Id}); err != nil {
			b.Fatal(err)
		}
	}
}

// asKubelet adds what a kubelet sends for a usual pod: labels and annotations of its own,
// the variables of five services, and five mounts.
func asKubelet(pod *runtimeapi.PodSandboxConfig, c *runtimeapi.ContainerConfig) (*runtimeapi.PodSandboxConfig, *runtimeapi.ContainerConfig) {
	name, uid := pod.Metadata.Name, pod.Metadata.Uid
	for _, labels := range []map[string]string{pod.Labels, c.Labels} {
		labels["io.kubernetes.pod.name"], labels["io.kubernetes.pod.namespace"], labels["io.kubernetes.pod.uid"] = name, "default", uid
	}
	pod.Labels["app"], pod.Labels["pod-template-hash"] = "a-deployment", "5d59d67564"
	pod.Annotations["kubernetes.io/config.seen"], pod.Annotations["kubernetes.io/config.source"] = "2026-11-27T10:00:00.000000000Z", "api"
	c.Labels["io.kubernetes.container.name"] = c.Metadata.Name
	for key, value := range map[string]string{
		"hash": "5d59d675", "ports": `[{"name":"http","containerPort":8080,"protocol":"TCP"}]`, "restartCount": "0",
		"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
	} {
		c.Annotations["io.kubernetes.container."+key] = value
	}
	c.Annotations["io.kubernetes.pod.terminationGracePeriod"] = "30"
	for i := range 5 {
		for key, value := range map[string]string{"HOST": "10.96.0.1", "PORT": "tcp://10.96.0.1:443", "PORT_443_TCP": "tcp://10.96.0.1:443", "PORT_443_TCP_ADDR": "10.96.0.1"} {
			c.Envs = append(c.Envs, &runtimeapi.KeyValue{Key: fmt.Sprintf("SOME_SERVICE_%d_%s", i, key), Value: []byte(value)})
		}
	}
	for i := range 5 {
		// What is mounted is in a directory of its own that every test run has.
		c.Mounts = append(c.Mounts, &runtimeapi.Mount{
			ContainerPath: fmt.Sprintf("/var/run/secrets/kubernetes.io/volume-%d", i), HostPath: "/usr/share", Readonly: true,
		})
	}
	return pod, c
}
