package crash

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/e2e"
)

const (
	lives   = 200
	atOnce  = 8
	pods    = 4
	numbers = 600
	// patience is how long one step of a life may take, kills included.
	patience = 2 * time.Minute
)

// run is one test: the daemon, its pods, and what became of the lives.
type run struct {
	t    *testing.T
	h    *e2e.Harness
	pods []*e2e.Pod

	// unseen counts exits that nobody could see, since both processes were dead.
	unseen atomic.Int64

	mu sync.Mutex
	// bothKilled are the times in which both were dead.
	bothKilled []span
	// monitorKilled is when the monitor was killed last, alone.
	monitorKilled time.Time
	// log says what was killed when, and counts how often.
	log    []string
	counts map[string]int
}

// span is a time from the first kill to after the second.
type span struct{ from, to time.Time }

// killed kills something and writes down when.
func (r *run) killed(what string, kill func()) span {
	s := span{from: time.Now()}
	kill()
	s.to = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	const clock = "15:04:05.000"
	r.log = append(r.log, fmt.Sprintf("%s to %s %s", s.from.UTC().Format(clock), s.to.UTC().Format(clock), what))
	return s
}

// noteBoth writes down that both were dead.
func (r *run) noteBoth(s span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bothKilled = append(r.bothKilled, s)
}

// killDaemon kills the daemon. That may be before it has got another monitor for one
// that was killed: then both are dead.
func (r *run) killDaemon() {
	s := r.killed("daemon", r.h.Daemon.Kill9)
	if !r.monitorKilled.IsZero() {
		// At first nobody can ask what the daemon had got to, nor look at a log.
		r.noteBoth(span{r.monitorKilled, s.to})
	}
	r.h.Daemon.Launch()
	r.h.Daemon.WaitReady()
	if r.monitorKilled.IsZero() || !r.hadMonitor(r.monitorKilled, s.from) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bothKilled = r.bothKilled[:len(r.bothKilled)-1]
}

// hadMonitor reports whether a daemon had met another monitor, and shared its
// containers with it, between two times.
func (r *run) hadMonitor(from, to time.Time) bool {
	for line := range strings.Lines(r.h.Stele("events", "-o", "wide", "node", "--json")) {
		var event struct {
			Type string
			Time time.Time
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			r.t.Errorf("stele events: %v: %s", err, line)
		}
		if event.Type == "node.MonitorStarted.v1" && event.Time.After(from) && event.Time.Before(to) {
			return true
		}
	}
	return false
}

// story is what became of a container, for a life that went wrong.
func (r *run) story(c *runtimeapi.ContainerStatus) string {
	r.h.Daemon.WaitReady()
	r.mu.Lock()
	defer r.mu.Unlock()
	at := func(nanos int64) string { return time.Unix(0, nanos).UTC().Format("15:04:05.000000") }
	history := r.h.Stele("events", "-o", "wide", c.Id)
	monitor, err := os.ReadFile(filepath.Join(r.h.State, "monitor", "monitor.log"))
	if err != nil {
		monitor = []byte(err.Error())
	}
	return fmt.Sprintf("container %s, started %s, finished %s, code %d %s; kills: %s\n%s\nthe monitors' log:\n%s",
		c.Id, at(c.StartedAt), at(c.FinishedAt), c.ExitCode, c.Message, strings.Join(r.log, ", "), history, monitor[max(0, len(monitor)-4096):])
}

// alone reports whether a container was left without both processes in its life.
func (r *run) alone(c *runtimeapi.ContainerStatus) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.bothKilled, func(both span) bool {
		return c.StartedAt <= both.to.UnixNano() && both.from.UnixNano() <= c.FinishedAt
	})
}

// kill9Both kills both, in either order, with next to nothing in between.
func (r *run) kill9Both(daemonFirst bool) {
	first, second := r.killMonitor, r.h.Daemon.Kill9
	if daemonFirst {
		first, second = second, first
	}
	r.noteBoth(r.killed(fmt.Sprintf("both, daemon first: %v", daemonFirst), func() { first(); second() }))
}

func TestLives(t *testing.T) {
	programs, err := e2e.BuildPrograms(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	seed := seedOf(t)
	t.Logf("STELE_CRASH_SEED=%d", seed)
	r := &run{t: t, h: e2e.New(t, programs, e2e.Options{}), counts: map[string]int{}}
	for i := range pods {
		config := r.h.PodConfig(fmt.Sprintf("crash%d", i))
		if i%2 == 1 {
			ranges := []*runtimeapi.IDMapping{{HostId: uint32(200000 + i*65536), Length: 65536}}
			config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: ranges, Gids: ranges}
		}
		r.pods = append(r.pods, r.h.RunPod(config))
	}

	work, done := make(chan int), make(chan struct{})
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for life := range work {
				if err := r.live(life); err != nil {
					t.Errorf("life %d: %v", life, err)
				}
			}
		})
	}
	go func() {
		defer close(done)
		// More lives if these were over before each could be killed: chance decides which is.
		for life := 0; life < lives || life < 20*lives && len(r.kills()) < len(victims); life++ {
			work <- life
		}
		close(work)
		workers.Wait()
	}()
	r.kill(rand.New(rand.NewPCG(seed, 0)), done)
	r.h.Daemon.WaitReady()
	kills := r.kills()
	t.Logf("%v; %d ends that nobody could see", kills, r.unseen.Load())
	for _, what := range victims {
		if kills[what] == 0 {
			t.Errorf("the lives were over before the %s could be killed", what)
		}
	}
	for _, pod := range r.pods {
		pod.Remove()
	}
	r.h.Audit()
}

func seedOf(t *testing.T) uint64 {
	t.Helper()
	text, given := os.LookupEnv("STELE_CRASH_SEED")
	if !given {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("STELE_CRASH_SEED: %v", err)
	}
	return seed
}

// victims are what is killed.
var victims = []string{"daemon", "monitor", "both"}

// kills counts what was killed.
func (r *run) kills() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}

func (r *run) count(victim string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[victim]++
}

// kill kills one of the two, or both, at random moments until done is closed.
func (r *run) kill(random *rand.Rand, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Duration(random.IntN(1500)) * time.Millisecond):
		}
		switch random.IntN(4) {
		case 0:
			r.killDaemon()
			r.count("daemon")
		case 1, 2:
			r.monitorKilled = r.killed("monitor", r.killMonitor).from
			r.count("monitor")
		case 3:
			r.kill9Both(random.IntN(2) == 0)
			r.h.Daemon.Launch()
			r.count("both")
		}
		r.h.Daemon.WaitReady()
	}
}

func (r *run) killMonitor() {
	for _, pid := range r.h.MonitorPIDs() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			r.t.Errorf("kill monitor %d: %v", pid, err)
		}
	}
}

// live takes a container through its life, and looks at its code and its log.
func (r *run) live(life int) error {
	pod, code := r.pods[life%pods], life%120
	config := r.h.TesterConfig(fmt.Sprintf("life%d", life), "numbers", strconv.Itoa(numbers), strconv.Itoa(code))
	id, err := r.start(pod, config)
	if err != nil {
		return err
	}
	ended, err := r.ended(id)
	if err != nil {
		return err
	}
	if ended.FinishedAt < ended.StartedAt {
		return fmt.Errorf("it ended before it was started; %s", r.story(ended))
	}
	// Who ends while both are dead may have an end that nobody saw, and says so then;
	// what it left in its pipe is gone.
	alone := r.alone(ended)
	if int(ended.ExitCode) != code {
		if ended.ExitCode != -1 || !alone {
			return fmt.Errorf("the exit code is %d (%s: %s), want %d; %s", ended.ExitCode, ended.Reason, ended.Message, code, r.story(ended))
		}
		r.unseen.Add(1)
	}
	if err := checkNumbers(filepath.Join(pod.Config.LogDirectory, config.LogPath), !alone); err != nil {
		return fmt.Errorf("%w; %s", err, r.story(ended))
	}
	return r.until(func() error {
		_, err := r.h.Runtime.RemoveContainer(r.h.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: id})
		return err
	})
}

// start creates and starts a container. As the kubelet does, it makes another attempt
// when one has failed.
func (r *run) start(pod *e2e.Pod, config *runtimeapi.ContainerConfig) (id string, err error) {
	for attempt := range uint32(20) {
		config.Metadata.Attempt = attempt
		config.LogPath = filepath.Join(config.Metadata.Name, fmt.Sprintf("%d.log", attempt))
		err = r.until(func() error {
			id, err = pod.TryCreate(config)
			return err
		})
		if err != nil {
			continue
		}
		err = r.until(func() error {
			_, err := r.h.Runtime.StartContainer(r.h.Context(), &runtimeapi.StartContainerRequest{ContainerId: id})
			return err
		})
		if err == nil {
			return id, nil
		}
		if removeErr := r.until(func() error {
			_, err := r.h.Runtime.RemoveContainer(r.h.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: id})
			return err
		}); removeErr != nil {
			return "", errors.Join(err, removeErr)
		}
	}
	return "", err
}

// ended waits for the container's end.
func (r *run) ended(id string) (*runtimeapi.ContainerStatus, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(30 * time.Millisecond) {
		var found *runtimeapi.ContainerStatus
		err := r.until(func() error {
			answer, err := r.h.Runtime.ContainerStatus(r.h.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
			found = answer.GetStatus()
			return err
		})
		switch {
		case err != nil:
			return nil, err
		case found.State == runtimeapi.ContainerState_CONTAINER_EXITED:
			return found, nil
		case time.Now().After(deadline):
			return nil, fmt.Errorf("it is still %s after %v", found.State, patience)
		}
	}
}

// until repeats a call while there is no daemon to answer it.
func (r *run) until(call func() error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(30 * time.Millisecond) {
		err := call()
		code := status.Code(err)
		if code != codes.Unavailable && code != codes.Canceled || time.Now().After(deadline) {
			return err
		}
	}
}

// checkNumbers wants every number once and in order; if not all, those up to some
// number.
func checkNumbers(log string, all bool) error {
	content, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	next, line := 0, ""
	for record := range strings.Lines(string(content)) {
		parts := strings.SplitN(strings.TrimSuffix(record, "\n"), " ", 4)
		if len(parts) != 4 || parts[1] != "stdout" {
			return fmt.Errorf("%s: after the number %d: %.100q is no record of stdout", log, next-1, record)
		}
		line += parts[3]
		if parts[2] != "F" {
			continue
		}
		want := strconv.Itoa(next)
		if next%97 == 96 {
			want += " " + strings.Repeat("x", 20_000)
		}
		if line != want {
			if !all && strings.HasPrefix(want, line) {
				return nil // the last one that came
			}
			return fmt.Errorf("%s: the line is %.60q (%d bytes), want the number %d", log, line, len(line), next)
		}
		next, line = next+1, ""
	}
	if all && next != numbers {
		return fmt.Errorf("%s: the numbers end with %d, want %d", log, next-1, numbers-1)
	}
	return nil
}
