package oci_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/oci"
)

// result is how a command ended, and what it wrote.
type result struct {
	oci.ExecResult
	Stdout, Stderr []byte
}

// execSync executes a command and collects its output.
func (n *node) execSync(ctx context.Context, c oci.Container, e oci.Exec) (result, error) {
	var stdout, stderr bytes.Buffer
	e.Stdio.Stdout, e.Stdio.Stderr = &stdout, &stderr
	r, err := n.driver.Exec(ctx, c, e)
	return result{r, stdout.Bytes(), stderr.Bytes()}, err
}

func shell(id, script string) oci.Exec { return oci.Exec{ID: id, Cmd: []string{"sh", "-c", script}} }

func TestExecSync(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", "sleep 1000")
	in.Image.Config.User = "app"
	in.Container.Envs = []*cri.KeyValue{{Key: "COLOR", Value: []byte("green")}}
	in.Container.WorkingDir = "/home/app"
	n.run(in)
	c := n.container("c1")
	r, err := n.execSync(t.Context(), c, shell("x1", "echo out; echo err >&2; exit 3"))
	n.must(err)
	if string(r.Stdout) != "out\n" || string(r.Stderr) != "err\n" || r.ExitCode != 3 || r.TimedOut {
		t.Errorf("%+v", r)
	}
	// It is what the container's own process is (CVE-2022-24769 for exec).
	got := n.exec("c1", "id -u; pwd; echo $COLOR; grep -E '^(CapInh|CapAmb|CapBnd|Seccomp):' /proc/self/status")
	want := "1000\n/home/app\ngreen\nCapInh:\t0000000000000000\nCapBnd:\t00000000000005fb\nCapAmb:\t0000000000000000\nSeccomp:\t2\n"
	if got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	entries, err := os.ReadDir(c.Bundle)
	n.must(err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "exec-") {
			t.Errorf("%s is left in the bundle", e.Name())
		}
	}
}

// As in CRI-O, commands have a terminal where the container has one.
// What the runtime has in its environment is not the container's.
func TestEnvironmentOfTheRuntimeStaysOutside(t *testing.T) {
	n := newNode(t)
	n.run(n.input("c1", "sleep 1000"))
	if got := n.exec("c1", `tr '\0' '\n' </proc/1/environ; env`); strings.Contains(got, "GOMAXPROCS") || !strings.Contains(got, "PATH=") {
		t.Errorf("the container's processes have the environment %q", got)
	}
}

func TestExecWithTerminal(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", "sleep 1000")
	in.Container.Tty = true
	n.run(in)
	r, err := n.execSync(t.Context(), n.container("c1"), shell("x1", "tty; echo err >&2; exit 3"))
	n.must(err)
	if string(r.Stdout) != "/dev/pts/1\r\nerr\r\n" || len(r.Stderr) > 0 || r.ExitCode != 3 {
		t.Errorf("%q, %q, %d", r.Stdout, r.Stderr, r.ExitCode)
	}
	// More than the kernel keeps, and a process that is left with the terminal.
	r, err = n.execSync(t.Context(), n.container("c1"), shell("x2", "seq 20000; trap '' HUP; sleep 1000 &"))
	n.must(err)
	if !strings.HasSuffix(string(r.Stdout), "19999\r\n20000\r\n") {
		t.Errorf("%d bytes", len(r.Stdout))
	}
	_, err = n.execSync(t.Context(), n.container("c1"), oci.Exec{ID: "x3", Cmd: []string{"no-such-program"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("error %v", err)
	}
}

// The init of a container that was not started holds what a command joins.
func TestExecBeforeStart(t *testing.T) {
	n := newNode(t)
	n.create(n.input("c1", "sleep 1000"))
	if got := n.exec("c1", "echo ready"); got != "ready\n" {
		t.Errorf("said %q", got)
	}
	if n.start("c1") {
		t.Error("the command started the container")
	}
}

func TestExecFails(t *testing.T) {
	n := newNode(t)
	p := n.run(n.input("c1", "exec sleep 1000"))
	c := n.container("c1")
	_, err := n.execSync(t.Context(), c, oci.Exec{ID: "x", Cmd: []string{"no-such-program"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-program") || !strings.Contains(err.Error(), "c1") {
		t.Errorf("error %v", err)
	}
	for name, tc := range map[string]struct {
		c    oci.Container
		e    oci.Exec
		kind fault.Kind
	}{
		"no command":        {c, oci.Exec{ID: "x"}, fault.Invalid},
		"path in the id":    {c, shell("../x", "true"), fault.Invalid},
		"unknown container": {n.container("c2"), shell("x", "true"), fault.Precondition},
	} {
		if _, err := n.execSync(t.Context(), tc.c, tc.e); fault.KindOf(err) != tc.kind || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	n.must(n.driver.Kill(t.Context(), c, 9, true))
	n.eventually("it is gone", func() bool { return gone(p.PID) })
	if r, err := n.execSync(t.Context(), c, shell("x", "true")); err == nil {
		t.Errorf("in a container that has ended: %+v", r)
	}
}

func TestExecTimesOut(t *testing.T) {
	n := newNode(t)
	n.run(n.input("c1", "sleep 1000"))
	e := shell("x1", "echo before; sleep 1001 & sleep 1002")
	e.Timeout = 300 * time.Millisecond
	r, err := n.execSync(t.Context(), n.container("c1"), e)
	n.must(err)
	if !r.TimedOut || string(r.Stdout) != "before\n" {
		t.Errorf("%+v", r)
	}
	n.eventually("only the container's own process is left", func() bool { return len(n.members("c1")) == 1 })
}

func TestExecIsCanceled(t *testing.T) {
	n := newNode(t)
	n.run(n.input("c1", "sleep 1000"))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		n.eventually("the exec runs", func() bool {
			_, err := os.Stat(n.container("c1").Bundle + "/exec-x1.pid")
			return err == nil
		})
		cancel()
	}()
	if _, err := n.execSync(ctx, n.container("c1"), shell("x1", "sleep 1001")); err == nil {
		t.Error("no error")
	}
	n.eventually("only the container's own process is left", func() bool { return len(n.members("c1")) == 1 })
}

// A process that is left behind holds standard output and keeps writing: the call
// still ends with the command.
func TestExecLeavesAProcessBehind(t *testing.T) {
	n := newNode(t)
	n.run(n.input("c1", "sleep 1000"))
	for id, script := range map[string]string{
		"silent": "echo said; sleep 1001 &",
		"noisy":  "echo said; setsid yes &",
	} {
		r, err := n.execSync(t.Context(), n.container("c1"), shell(id, script))
		n.must(err)
		if !strings.HasPrefix(string(r.Stdout), "said\n") || r.ExitCode != 0 {
			t.Errorf("%s: %.100q, %d", id, r.Stdout, r.ExitCode)
		}
	}
}

// Everything that a command wrote before it ended is there, however little time
// there was to read it.
func TestExecLosesNothing(t *testing.T) {
	n := newNode(t)
	n.run(n.input("c1", "sleep 1000"))
	for i := range 5 {
		r, err := n.execSync(t.Context(), n.container("c1"), shell(fmt.Sprint("x", i), "yes | head -c 60000; sleep 1001 &"))
		n.must(err)
		if len(r.Stdout) != 60000 {
			t.Errorf("%d bytes", len(r.Stdout))
		}
	}
}

func TestExecsAtOnce(t *testing.T) {
	n := newNode(t)
	n.run(n.input("c1", "sleep 1000"))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			r, err := n.execSync(t.Context(), n.container("c1"), shell(fmt.Sprint("x", i), fmt.Sprintf("echo %d; exit %d", i, i)))
			if err != nil || string(r.Stdout) != fmt.Sprintln(i) || r.ExitCode != i {
				t.Errorf("%d: %+v, %v", i, r, err)
			}
		})
	}
	wg.Wait()
}

// CVE-2022-23471: an exec leaves no goroutine and no descriptor behind, even if
// its process leaves others.
func TestExecLeaksNothing(t *testing.T) {
	n := newNode(t)
	n.run(n.input("c1", "sleep 1000"))
	leave := func(id string) {
		if _, err := n.execSync(t.Context(), n.container("c1"), shell(id, "sleep 1001 &")); err != nil {
			t.Fatal(err)
		}
	}
	leave("first")
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors(t)
	for i := range 5 {
		leave(fmt.Sprint("x", i))
	}
	n.eventually("no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines })
	n.eventually("no descriptor is left", func() bool { return openDescriptors(t) <= descriptors })
}

func openDescriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
