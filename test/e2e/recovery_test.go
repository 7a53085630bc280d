package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/audit"
)

// TestKillWhilePodsRun kills the daemon under running pods: afterwards nothing has changed,
// and what happened meanwhile is known.
func TestKillWhilePodsRun(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	trigger := filepath.Join(h.Share, "trigger")
	pods := podsOfEveryKind(h)
	var running, ending []string
	counter := h.TesterConfig("counter", "count")
	for i, pod := range pods {
		running = append(running, pod.Run(counter))
		config := h.TesterConfig("ending", "await", "/share/trigger", strconv.Itoa(70+i))
		config.Mounts = []*runtimeapi.Mount{{HostPath: h.Share, ContainerPath: "/share"}}
		ending = append(ending, pod.Run(config))
	}
	created := pods[0].Create(h.ContainerConfig("created"))
	exited := pods[0].Run(h.ContainerConfig("exited", "sh", "-c", "exit 5"))
	h.WaitExit(exited)
	stopped := h.RunPod(h.PodConfig("stopped"))
	stopped.Stop()

	pids, ends := h.ContainerPIDs(running), h.ContainerPIDs(ending)
	before := h.everything()

	h.Daemon.Kill9()
	h.write(trigger, "")
	killed := time.Now()
	h.Eventually("they end while no daemon runs", func() bool { return !slices.ContainsFunc(ends, alive) })
	for _, pod := range pods {
		log := filepath.Join(pod.Config.LogDirectory, counter.LogPath)
		// Its containers go on, with their logs.
		had := len(h.ReadLog(log))
		h.Eventually("the log grows while no daemon runs", func() bool { return len(h.ReadLog(log)) > had+20 })
	}
	restarted := time.Now()
	h.Daemon.Start()

	for i, id := range ending {
		got := h.WaitExit(id)
		if got.ExitCode != int32(70+i) {
			t.Errorf("exit code %d of a container that ended without a daemon, want %d", got.ExitCode, 70+i)
		}
		if at := time.Unix(0, got.FinishedAt); at.Before(killed.Add(-time.Second)) || at.After(restarted.Add(time.Second)) {
			t.Errorf("it ended at %s, want between %s and %s", at, killed, restarted)
		}
		delete(before, id)
	}
	after := h.everything()
	for _, id := range ending {
		delete(after, id)
	}
	expectUnchanged(t, before, after)
	if now := h.ContainerPIDs(running); !slices.Equal(now, pids) {
		t.Errorf("the containers have the pids %v, had %v", now, pids)
	}
	for _, id := range running {
		h.Exec(id, "/tester", "report")
	}
	for i, pod := range pods {
		countsToItsEnd(t, h, running[i], filepath.Join(pod.Config.LogDirectory, counter.LogPath))
	}
	// What was created before is started after.
	h.StartContainer(created)
	h.Exec(created, "true")
	if ip := pods[0].IP(); ip != "" {
		server := pods[0].Run(h.TesterConfig("server", "serve", ":8080"))
		h.Reachable(ip + ":8080").Close()
		h.RemoveContainer(server)
	}
}

// podsOfEveryKind runs a plain pod, one with a PID namespace of its own, and one in the
// node's network.
func podsOfEveryKind(h *Harness) []*Pod {
	shared := h.PodConfig("shared")
	shared.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
	hostNetwork := h.PodConfig("hostnet")
	hostNetwork.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
	var pods []*Pod
	for _, config := range []*runtimeapi.PodSandboxConfig{h.PodConfig("plain"), shared, hostNetwork} {
		pods = append(pods, h.RunPod(config))
	}
	return pods
}

// expectUnchanged compares everything before a restart and after it.
func expectUnchanged(t *testing.T, before, after map[string]proto.Message) {
	t.Helper()
	for id, want := range before {
		if got, ok := after[id]; !ok || !proto.Equal(got, want) {
			t.Errorf("after the restart %s is\n%v\nwant\n%v", id, got, want)
		}
		delete(after, id)
	}
	for id, extra := range after {
		t.Errorf("after the restart there is %s: %v", id, extra)
	}
}

// countsToItsEnd stops a container that counts, whose log must go on until then and have
// every number.
func countsToItsEnd(t *testing.T, h *Harness, id, log string) {
	t.Helper()
	had := len(h.ReadLog(log))
	h.Eventually("the log grows after the restart", func() bool { return len(h.ReadLog(log)) > had })
	h.StopContainer(id, 0)
	for n, line := range h.ReadLog(log) {
		if line.Text != strconv.Itoa(n) {
			t.Fatalf("record %d is %q: lost or doubled", n, line.Text)
		}
	}
	if code := h.ContainerStatus(id).ExitCode; code != 137 {
		t.Errorf("a container that was killed after the restart ended with %d", code)
	}
}

// everything returns the stable part of the status of every pod and container, by id.
func (c *Client) everything() map[string]proto.Message {
	c.t.Helper()
	all := map[string]proto.Message{}
	pods, err := c.Runtime.ListPodSandbox(c.Context(), &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, listed := range pods.Items {
		answer, err := c.Runtime.PodSandboxStatus(c.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: listed.Id})
		if err != nil {
			c.t.Fatal(err)
		}
		all[listed.Id], all["list "+listed.Id] = answer.Status, listed
	}
	containers, err := c.Runtime.ListContainers(c.Context(), &runtimeapi.ListContainersRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, listed := range containers.Containers {
		all[listed.Id] = c.ContainerStatus(listed.Id)
	}
	return all
}

// A stop whose grace period was running goes on after a restart, when the caller
// asks again.
func TestKillDuringStop(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("stopping"))
	config := h.TesterConfig("stubborn", "term", "-1")
	id := pod.Run(config)
	h.Eventually("it handles signals", func() bool { return len(pod.Log(config)) > 0 })
	result := make(chan error, 1)
	go func() {
		_, err := h.Runtime.StopContainer(h.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 5})
		result <- err
	}()
	h.Eventually("the signal came", func() bool { return len(pod.Log(config)) > 1 })
	h.Daemon.Kill9()
	if err := <-result; err == nil {
		t.Error("StopContainer succeeded without a daemon")
	}
	h.Daemon.Start()
	h.StopContainer(id, 1)
	if code := h.ContainerStatus(id).ExitCode; code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
}

// TestKillAtAnyMoment kills the daemon at random moments of a pod's life and has
// a kubelet go on from there: nothing may be stuck, doubled or left behind.
//
// The environment's STELE_E2E_SEED repeats a run, STELE_E2E_ROUNDS makes it
// longer.
func TestKillAtAnyMoment(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	seed, rounds := fromEnvironment(t, "STELE_E2E_SEED", uint64(time.Now().UnixNano())), fromEnvironment(t, "STELE_E2E_ROUNDS", 16)
	t.Logf("STELE_E2E_SEED=%d STELE_E2E_ROUNDS=%d", seed, rounds)
	random := rand.New(rand.NewPCG(seed, 0))

	whole := quickest(t, h)
	for round := range rounds {
		k := kubelet{h: h, config: h.PodConfig(fmt.Sprintf("round%d", round)), container: h.ContainerConfig("c")}
		steps := k.steps()
		// Every step gets its turn, at moments that differ.
		victim := int(round) % len(steps)
		delay := time.Duration(random.Float64() * 1.2 * float64(whole[steps[victim].name]))
		again := random.IntN(3) > 0
		for i, step := range steps {
			if i != victim {
				if err := step.call(); err != nil {
					t.Fatalf("round %d: %s: %v", round, step.name, err)
				}
				continue
			}
			interrupted := make(chan error, 1)
			go func() { interrupted <- step.call() }()
			time.Sleep(delay)
			h.Daemon.Kill9()
			err := <-interrupted
			t.Logf("round %d: killed %s into %s: %v", round, delay.Round(100*time.Microsecond), step.name, err)
			h.Daemon.Start()
			if !again {
				break
			}
			// The kubelet repeats a call that failed.
			if err := step.call(); err != nil {
				t.Fatalf("round %d: %s after the restart: %v", round, step.name, err)
			}
		}
		// Everything can be found and removed. A pod whose call was not repeated is still
		// made, and appears when it is.
		h.Eventually("nothing is left", func() bool {
			h.removePods()
			leaks, err := audit.Lasting(h.Scope, h.Before, 0)
			return err == nil && len(leaks) == 0
		})
		containers, err := h.Runtime.ListContainers(h.Context(), &runtimeapi.ListContainersRequest{})
		if err != nil || len(containers.Containers) != 0 {
			t.Fatalf("round %d: containers are left: %v, %v", round, containers, err)
		}
		if h.Audit(); t.Failed() {
			t.Fatalf("round %d failed", round)
		}
		// The name is free.
		id, err := h.TryRunPod(k.config)
		if err != nil {
			t.Fatalf("round %d: the name cannot be used again: %v", round, err)
		}
		h.removePod(id)
	}
}

// quickest measures how long each step takes here at best, so that a kill comes in its
// middle whatever the machine.
func quickest(t *testing.T, h *Harness) map[string]time.Duration {
	t.Helper()
	whole := map[string]time.Duration{}
	for range 3 {
		k := kubelet{h: h, config: h.PodConfig("measure"), container: h.ContainerConfig("c")}
		for _, step := range k.steps() {
			begun := time.Now()
			if err := step.call(); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			took := time.Since(begun)
			if best, measured := whole[step.name]; !measured || took < best {
				whole[step.name] = took
			}
		}
	}
	return whole
}

func fromEnvironment(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok {
		return otherwise
	}
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// kubelet takes one pod through its life.
type kubelet struct {
	h               *Harness
	config          *runtimeapi.PodSandboxConfig
	container       *runtimeapi.ContainerConfig
	pod, container0 string
}

type step struct {
	name string
	call func() error
}

// steps are calls that may each be repeated after a failure.
func (k *kubelet) steps() []step {
	return []step{
		{"RunPodSandbox", func() error {
			id, err := k.h.TryRunPod(k.config)
			if err == nil {
				k.pod = id
			}
			return err
		}},
		{"CreateContainer", func() error {
			id, err := (&Pod{ID: k.pod, Config: k.config, h: k.h}).TryCreate(k.container)
			if err == nil {
				k.container0 = id
			}
			return err
		}},
		{"StartContainer", func() error {
			_, err := k.h.Runtime.StartContainer(k.h.Context(), &runtimeapi.StartContainerRequest{ContainerId: k.container0})
			return err
		}},
		{"ExecSync", func() error {
			_, err := k.h.Runtime.ExecSync(k.h.Context(), &runtimeapi.ExecSyncRequest{ContainerId: k.container0, Cmd: []string{"true"}})
			return err
		}},
		{"StopContainer", func() error {
			_, err := k.h.Runtime.StopContainer(k.h.Context(), &runtimeapi.StopContainerRequest{ContainerId: k.container0})
			return err
		}},
		{"RemoveContainer", func() error {
			_, err := k.h.Runtime.RemoveContainer(k.h.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: k.container0})
			return err
		}},
		{"StopPodSandbox", func() error {
			_, err := k.h.Runtime.StopPodSandbox(k.h.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: k.pod})
			return err
		}},
		{"RemovePodSandbox", func() error {
			_, err := k.h.Runtime.RemovePodSandbox(k.h.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: k.pod})
			return err
		}},
	}
}

// TestKillUnderLoad kills the daemon while many pods come and go.
func TestKillUnderLoad(t *testing.T) {
	h := New(t, programs, Options{})
	const pods, kills = 12, 3
	random := rand.New(rand.NewPCG(fromEnvironment(t, "STELE_E2E_SEED", uint64(time.Now().UnixNano())), 1))
	done := make(chan error, pods)
	for i := range pods {
		k := kubelet{h: h, config: h.PodConfig(fmt.Sprintf("load%d", i)), container: h.ContainerConfig("c")}
		go func() { done <- k.live() }()
	}
	for range kills {
		time.Sleep(time.Duration(200+random.IntN(800)) * time.Millisecond)
		h.Daemon.Kill9()
		h.Daemon.Launch()
	}
	h.Daemon.WaitReady()
	for range pods {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	h.Audit()
}

// live makes each call until it succeeds or is refused for good.
func (k *kubelet) live() error {
	for _, step := range k.steps() {
		for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
			err := step.call()
			if err == nil {
				break
			}
			switch status.Code(err) {
			case codes.Unavailable, codes.Canceled:
				// The daemon is gone.
			default:
				return fmt.Errorf("%s of %s: %w", step.name, k.config.Metadata.Name, err)
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s of %s doesn't come to an end: %w", step.name, k.config.Metadata.Name, err)
			}
		}
	}
	return nil
}
