package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// subscriber follows the events as a kubelet does: when a subscription ends, it begins
// another.
type subscriber struct {
	h *Harness

	mu  sync.Mutex
	all []*runtimeapi.ContainerEventResponse
	// ends are the errors of subscriptions, begun is how many began.
	ends  []error
	begun int
}

// Subscribe returns once a subscription is in place, which ends with the test.
func (h *Harness) Subscribe() *subscriber {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s, done := &subscriber{h: h}, make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			err := s.follow(ctx)
			s.mu.Lock()
			s.ends = append(s.ends, err)
			s.mu.Unlock()
			time.Sleep(10 * time.Millisecond)
		}
	}()
	h.t.Cleanup(func() {
		cancel()
		<-done
	})
	h.Eventually("a subscription begins", func() bool { return s.subscriptions() > 0 })
	return s
}

func (s *subscriber) follow(ctx context.Context) error {
	stream, err := s.h.Runtime.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	if err != nil {
		return err
	}
	if _, err := stream.Header(); err != nil {
		return err
	}
	s.mu.Lock()
	s.begun++
	s.mu.Unlock()
	for {
		e, err := stream.Recv()
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.all = append(s.all, e)
		s.mu.Unlock()
	}
}

func (s *subscriber) subscriptions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun
}

// events are all that came so far.
func (s *subscriber) events() []*runtimeapi.ContainerEventResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// lives are the turns of each pod and container, in order, such as "csxd".
func (s *subscriber) lives() map[string]string {
	all := map[string]string{}
	for _, e := range s.events() {
		all[e.ContainerId] += map[runtimeapi.ContainerEventType]string{
			runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT: "c", runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT: "s",
			runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT: "x", runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT: "d",
		}[e.ContainerEventType]
	}
	return all
}

// wholeLife are the turns of what ran and is gone.
const wholeLife = "csxd"

// awaitLife waits until the turns of an id are these.
func (s *subscriber) awaitLife(id, turns string) {
	s.h.t.Helper()
	s.h.Eventually(id+" goes through "+turns, func() bool { return len(s.lives()[id]) >= len(turns) })
	if got := s.lives()[id]; got != turns {
		s.h.t.Errorf("%s went through %q, want %q", id, got, turns)
	}
}

// told is an event in one line: what it says of which name, and the pod as of then.
func told(e *runtimeapi.ContainerEventResponse, names map[string]string) string {
	line := fmt.Sprintf("%s %s: %s", names[e.ContainerId], strings.TrimPrefix(e.ContainerEventType.String(), "CONTAINER_"), strings.TrimPrefix(e.PodSandboxStatus.GetState().String(), "SANDBOX_"))
	for _, c := range e.ContainersStatuses {
		line += fmt.Sprintf(" %s=%s(%d)", names[c.Id], strings.TrimPrefix(c.State.String(), "CONTAINER_"), c.ExitCode)
	}
	return line
}

// Every subscriber gets every turn of a life, with the pod as of then.
func TestEvents(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	one, other := h.Subscribe(), h.Subscribe()
	pod := h.RunPod(h.PodConfig("events"))
	running := pod.Run(h.ContainerConfig("running"))
	exited := pod.Run(h.ContainerConfig("exited", "sh", "-c", "exit 7"))
	one.awaitLife(exited, "csx")
	h.ExecSync(running, "true") // is no event
	h.StopContainer(running, 0)
	h.RemoveContainer(running)
	pod.Remove()
	one.awaitLife(pod.ID, wholeLife)
	other.awaitLife(pod.ID, wholeLife)

	names := map[string]string{pod.ID: "pod", running: "running", exited: "exited"}
	want := []string{
		"pod CREATED_EVENT: READY", "pod STARTED_EVENT: READY",
		"running CREATED_EVENT: READY running=CREATED(0)", "running STARTED_EVENT: READY running=RUNNING(0)",
		"exited CREATED_EVENT: READY exited=CREATED(0) running=RUNNING(0)",
		"exited STARTED_EVENT: READY exited=RUNNING(0) running=RUNNING(0)", // or ended by now
		"exited STOPPED_EVENT: READY exited=EXITED(7) running=RUNNING(0)",
		"running STOPPED_EVENT: READY exited=EXITED(7) running=EXITED(137)",
		"running DELETED_EVENT: READY exited=EXITED(7)",
		"pod STOPPED_EVENT: NOTREADY exited=EXITED(7)",
		"exited DELETED_EVENT: NOTREADY",
		"pod DELETED_EVENT: NOTREADY",
	}
	for _, s := range []*subscriber{one, other} {
		var got []string
		for _, e := range s.events() {
			if e.PodSandboxStatus.GetMetadata().GetUid() != pod.Config.Metadata.Uid || e.CreatedAt == 0 {
				t.Errorf("the kubelet cannot use %v", e)
			}
			line := told(e, names)
			if strings.HasPrefix(line, "exited STARTED_EVENT") {
				line = strings.Replace(line, "exited=EXITED(7)", "exited=RUNNING(0)", 1)
			}
			got = append(got, line)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// Exits while no daemon ran go to the first subscriber, once (kubernetes#129827).
func TestEventsWhileAway(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	first := h.Subscribe()
	pod := h.RunPod(h.PodConfig("away"))
	trigger := filepath.Join(h.Share, "trigger")
	var ending []string
	for i := range 3 {
		config := h.TesterConfig(fmt.Sprint("ending", i), "await", "/share/trigger", strconv.Itoa(70+i))
		config.Mounts = []*runtimeapi.Mount{{HostPath: h.Share, ContainerPath: "/share"}}
		ending = append(ending, pod.Run(config))
		first.awaitLife(ending[i], "cs")
	}
	pids := map[string]int{}
	for _, id := range ending {
		pids[id] = h.ContainerPID(id)
	}

	h.Daemon.Kill9()
	h.write(trigger, "")
	for id, pid := range pids {
		h.Eventually(id+" ends", func() bool { return !alive(pid) })
	}
	h.Daemon.Start()
	for i, id := range ending {
		first.awaitLife(id, "csx")
		for _, e := range first.events() {
			if e.ContainerId != id || e.ContainerEventType != runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT {
				continue
			}
			for _, c := range e.ContainersStatuses {
				if c.Id == id && c.ExitCode != int32(70+i) {
					t.Errorf("%s is said to have ended with %d, want %d", id, c.ExitCode, 70+i)
				}
			}
		}
	}
	second := h.Subscribe()
	pod.Remove()
	second.awaitLife(pod.ID, "xd")
	first.awaitLife(pod.ID, wholeLife)
	for _, id := range ending {
		first.awaitLife(id, wholeLife)
		if got := second.lives()[id]; got != "d" {
			t.Errorf("the second subscriber was told that %s went through %q", id, got)
		}
	}
	first.mu.Lock()
	defer first.mu.Unlock()
	h.Refused(first.ends[0], codes.Unavailable)
}

// While pods come and go, the daemon is ended in order, and nothing is lost or doubled.
func TestEventsAcrossRestarts(t *testing.T) {
	h := New(t, programs, Options{})
	s := h.Subscribe()
	pods := liveThrough(h, 8, 3, func() {
		h.Daemon.WaitReady() // one that is starting ends with an error
		h.Daemon.Stop()
		h.Daemon.Launch()
	})
	for _, k := range pods {
		s.awaitLife(k.container0, wholeLife)
		s.awaitLife(k.pod, wholeLife)
	}
	expectLives(t, s, 0)
}

// When the daemon is killed, what is on its way at that instant may be lost or doubled, and
// nothing else.
func TestEventsAcrossKills(t *testing.T) {
	h := New(t, programs, Options{})
	s := h.Subscribe()
	const kills = 3
	liveThrough(h, 8, kills, func() {
		h.Daemon.Kill9()
		h.Daemon.Launch()
	})
	last := h.RunPod(h.PodConfig("last"))
	s.awaitLife(last.ID, "cs")
	expectLives(t, s, kills)
}

// liveThrough takes so many pods through their lives, while the daemon is interrupted so
// many times.
func liveThrough(h *Harness, pods, times int, interrupt func()) []*kubelet {
	h.t.Helper()
	random := rand.New(rand.NewPCG(fromEnvironment(h.t.(*testing.T), "STELE_E2E_SEED", uint64(time.Now().UnixNano())), 2))
	var all []*kubelet
	done := make(chan error, pods)
	for i := range pods {
		k := &kubelet{h: h, config: h.PodConfig(fmt.Sprintf("pod%d", i)), container: h.ContainerConfig("c")}
		all = append(all, k)
		go func() { done <- k.live() }()
	}
	for range times {
		time.Sleep(time.Duration(200+random.IntN(600)) * time.Millisecond)
		interrupt()
	}
	h.Daemon.WaitReady()
	for range pods {
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	}
	return all
}

// expectLives checks that lives are in order, but for so many turns.
func expectLives(t *testing.T, s *subscriber, wrong int) {
	t.Helper()
	found := 0
	for id, turns := range s.lives() {
		// What never ran was not started.
		if !strings.HasPrefix(wholeLife, turns) && !strings.HasPrefix("cxd", turns) {
			t.Logf("%s went through %q", id, turns)
			found++
		}
	}
	if found > wrong {
		t.Errorf("%d lives are not in order", found)
	}
	at := int64(0)
	for _, e := range s.events() {
		if e.CreatedAt < at {
			t.Errorf("%v comes after a later one", e)
		}
		at = e.CreatedAt
	}
}
