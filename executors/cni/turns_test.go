package cni

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Neither goes on for ever if the test is killed.
	sleeps = `sleep 300`
	spins  = `ulimit -t 120; while :; do :; done`
)

// only has a script run for some pods.
func only(script string, pods ...Pod) string {
	var ids []string
	for _, p := range pods {
		ids = append(ids, p.ID)
	}
	return `case "$CNI_CONTAINERID" in ` + strings.Join(ids, "|") + `) ` + script + `;; esac`
}

// crowd is pods whose plugins misbehave.
type crowd struct {
	*testNet
	w    *wrapper
	pods []Pod
}

// newCrowd makes pods whose plugins the test ends, whatever becomes of it.
func newCrowd(t *testing.T, n *testNet, w *wrapper, many int) *crowd {
	t.Helper()
	c := &crowd{testNet: n, w: w}
	for i := range many {
		c.pods = append(c.pods, n.pod(fmt.Sprint("crowd-", i)))
	}
	t.Cleanup(func() {
		for _, p := range c.pods {
			endPlugins(t, p)
		}
	})
	return c
}

// endPlugins kills what a failed test leaves of a pod's plugins.
func endPlugins(t *testing.T, p Pod) {
	t.Helper()
	if err := endOrphans(withoutCancel(t), p.ID); err != nil {
		t.Error(err)
	}
}

// all calls a verb for all pods, which must fail when the test releases them, and waits
// until so many of their plugins run.
func (c *crowd) all(t *testing.T, verb, script string, running int) (release func()) {
	t.Helper()
	c.w.do("before", verb, only(script, c.pods...))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, p := range c.pods {
		all.Go(func() {
			var err error
			if verb == "ADD" {
				_, err = c.Attach(ctx, p)
			} else {
				err = c.Detach(ctx, p)
			}
			if err == nil {
				t.Errorf("%s of pod %s did not wait", verb, p.ID)
			}
		})
	}
	release = sync.OnceFunc(func() {
		cancel()
		all.Wait()
		c.w.do("before", verb, "")
		for _, p := range c.pods {
			c.detach(p)
		}
	})
	t.Cleanup(release)
	eventually(t, fmt.Sprintf("%d plugins run", running), func() bool { return c.running(t) == running })
	return release
}

// running is for how many pods a plugin runs.
func (c *crowd) running(t *testing.T) int {
	t.Helper()
	running := 0
	for _, p := range c.pods {
		if len(pluginsOf(t, p.ID)) > 0 {
			running++
		}
	}
	return running
}

// Plugins that wait hold up no other pod, however many there are: neither their ADDs nor
// their DELs.
func TestPluginsThatWaitHoldUpNobody(t *testing.T) {
	n, w := newWrapped(t, setup{})
	for verb, many := range map[string]int{"ADD": addsMost() + 3, "DEL": delsMost + 1} {
		t.Run(verb, func(t *testing.T) {
			c, other := newCrowd(t, n, w, many), n.pod("other")
			if verb == "DEL" {
				n.attach(other)
				for _, p := range c.pods {
					n.attach(p)
				}
			}
			release := c.all(t, verb, sleeps, many)
			if verb == "ADD" {
				n.attach(other)
			}
			n.detach(other)
			if c.running(t) != many {
				t.Error("some plugins no longer wait: the other pod may have waited for them")
			}
			release()
		})
	}
}

// Plugins that use the CPU, or whose children do, are not given up on: no more of them
// run than there are turns, however long they take.
func TestPluginsThatComputeAreBounded(t *testing.T) {
	n, w := newWrapped(t, setup{})
	for name, script := range map[string]string{"plugins": spins, "children": "(" + spins + ") & wait"} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, n, w, addsMost()+3)
			release := c.all(t, "ADD", script, addsMost())
			// By then each was looked at often.
			eventually(t, "the plugins have computed for long", func() bool {
				var used time.Duration
				for _, p := range c.pods {
					for _, pid := range pluginsOf(t, p.ID) {
						used += cpuTime(pid)
					}
				}
				return used > 10*addIdle*time.Duration(addsMost())
			})
			if got := c.running(t); got != addsMost() {
				t.Errorf("%d plugins compute at the same time, want %d", got, addsMost())
			}
			release()
		})
	}
}

// Plugins that wait are processes: there is a limit on them, too.
func TestPluginsThatWaitAreBounded(t *testing.T) {
	n, w := newWrapped(t, setup{})
	for _, turns := range []turns{n.adds, n.dels} {
		if turns.room.TryAcquire(runMost + 1) {
			t.Error("there is more room than for", runMost)
		}
	}
	const room = 5
	n.adds = newTurns(addsMost(), room, addIdle)
	c := newCrowd(t, n, w, room)
	release := c.all(t, "ADD", sleeps, room)
	other := n.pod("other")
	short, cancel := context.WithCancel(t.Context())
	refused := make(chan error)
	go func() {
		_, err := n.Attach(short, other)
		refused <- err
	}()
	// One that is queued behind it would have to be let in later.
	eventually(t, "the other pod waits", func() bool { return !n.adds.room.TryAcquire(1) })
	cancel()
	if err := <-refused; err == nil || !strings.Contains(err.Error(), "other pods' plugins") {
		t.Errorf("%v, want one that says what it waited for", err)
	}
	if strings.Contains(w.read("calls"), "ADD "+other.ID) {
		t.Error("a plugin was called for the other pod")
	}
	release()
	n.attach(other)
	n.detach(other)
	for _, turns := range []turns{n.adds, n.dels} {
		if !turns.busy.TryAcquire(1) || !turns.room.TryAcquire(1) {
			t.Error("turns are lost")
		}
	}
}

// A turn is given up while its plugin waits, and taken back when it goes on.
func TestTurnIsTakenBack(t *testing.T) {
	turns := newTurns(1, 2, addIdle)
	turn, err := turns.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	input, output, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	plugin := exec.Command("sh", "-c", "read line; "+spins)
	plugin.Stdin = input
	if err := plugin.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = plugin.Process.Kill()
		_ = plugin.Wait()
		if err := errors.Join(input.Close(), output.Close()); err != nil {
			t.Error(err)
		}
	})
	turn.runs(plugin.Process.Pid)
	free := func() bool {
		if !turns.busy.TryAcquire(1) {
			return false
		}
		turns.busy.Release(1)
		return true
	}
	eventually(t, "the turn is given up", free)
	if _, err := output.WriteString("go on\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the turn is taken back", func() bool { return !free() })
	turn.done()
	if !free() {
		t.Error("the turn did not end")
	}
}

// A plugin that hangs for one unknown pod does not keep GC from the others.
func TestGarbageCollectionIsNotHeldUp(t *testing.T) {
	n, w := newWrapped(t, setup{version: "1.1.0"})
	pods := []Pod{n.pod("one"), n.pod("two"), n.pod("three")}
	for _, p := range pods {
		n.attach(p)
		t.Cleanup(func() { endPlugins(t, p) })
	}
	recorded, err := n.recorded()
	if err != nil || len(recorded) != len(pods) {
		t.Fatalf("records of %v, %v", recorded, err)
	}
	stuck := slices.Min(recorded) // the first
	w.do("before", "DEL", only(sleeps, Pod{ID: stuck}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- n.GC(ctx, nil) }()
	eventually(t, "the others are detached", func() bool {
		left, err := n.recorded()
		return err == nil && len(left) == 1 && left[0] == stuck
	})
	cancel()
	if <-ended == nil {
		t.Error("GC says nothing of the pod that it could not detach")
	}
	w.do("before", "DEL", "")
	n.detach(Pod{ID: stuck})
}

func TestCPUUse(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), ") S 1 (x") // as the kernel shows it
	if err := os.Symlink(shell, name); err != nil {
		t.Fatal(err)
	}
	spinner := exec.Command(name, "-c", "("+spins+") & wait")
	spinner.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := spinner.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Kill(-spinner.Process.Pid, unix.SIGKILL)
		_ = spinner.Wait()
	})
	pid := spinner.Process.Pid
	eventually(t, "its child computes", func() bool {
		use := cpuUseOfGroup(pid)
		return use.runnable && use.used > 100*time.Millisecond
	})
	if alone := cpuUseOf(pid); alone.pid != pid || alone.used <= 0 || alone.used > cpuUseOfGroup(pid).used {
		t.Errorf("alone it uses %v", alone)
	}
	if err := unix.Kill(-pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "they stand", func() bool { return !cpuUseOfGroup(pid).runnable })
	if a, b := cpuUseOfGroup(pid), cpuUseOfGroup(pid); a != b {
		t.Errorf("%v, then %v", a, b)
	}
	if got := cpuUseOfGroup(0); got != (cpuUse{}) {
		t.Errorf("no process uses %v", got)
	}
}
