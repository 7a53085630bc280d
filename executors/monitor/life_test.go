package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stele-runtime/stele/executors/monitor"
)

func TestExitCodesSignalsAndTimes(t *testing.T) {
	n := newNode(t)
	before := time.Now()
	n.run(container{id: "zero", script: "exit 0"})
	n.run(container{id: "seven", script: "exit 7"})
	killed := n.run(container{id: "killed", script: "sleep 1000"})
	if err := n.client.Signal(context.Background(), "killed", int(syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	exits := n.exits(0, "zero", "seven", "killed")
	for id, want := range map[string]struct{ code, signal int }{"zero": {0, 0}, "seven": {7, 0}, "killed": {137, 9}} {
		e := exits[id]
		if e.Code != want.code || e.Signal != want.signal || e.Unknown != "" || e.OOMKilled {
			t.Errorf("%s ended with %+v, want %+v", id, e, want)
		}
		if e.Time.Before(before) || e.Time.After(time.Now()) || e.SinceBoot <= 0 {
			t.Errorf("%s ended at %v, %v after boot", id, e.Time, e.SinceBoot)
		}
	}
	n.eventually("the killed process is no zombie", func() bool { return gone(killed.PID) })
	// A signal after the end is no error, nor is a second Forget.
	if err := n.client.Signal(context.Background(), "killed", 9); err != nil {
		t.Error(err)
	}
	n.delete("killed")
	if err := n.client.Forget(context.Background(), "killed"); err != nil {
		t.Error(err)
	}
	if err := n.client.Signal(context.Background(), "killed", 9); !errors.Is(err, monitor.ErrNotFound) {
		t.Errorf("a signal to a forgotten container gave %v", err)
	}
}

func TestOutOfMemory(t *testing.T) {
	n := newNode(t)
	const limit = 16 << 20
	n.run(container{id: "self", memory: limit, script: "exec head -c 100000000 /dev/zero | tail -c 90000000 >/dev/null; exit 3"})
	n.run(container{id: "fine", memory: limit, script: "exit 0"})
	exits := n.exits(0, "self", "fine")
	if e := exits["self"]; !e.OOMKilled {
		t.Errorf("the container that ran out of memory ended with %+v", e)
	}
	if e := exits["fine"]; e.OOMKilled || e.Code != 0 {
		t.Errorf("the container that did not run out of memory ended with %+v", e)
	}
	if e := exits["self"]; e.MemoryLimit != limit || e.MemoryPeak < limit*9/10 || e.MemoryPeak > limit {
		t.Errorf("of a limit of %d bytes, all of which it used, %d and %d bytes are reported", limit, e.MemoryLimit, e.MemoryPeak)
	}
	if e := exits["fine"]; e.MemoryLimit != limit || e.MemoryPeak == 0 || e.MemoryPeak > limit/2 {
		t.Errorf("of a limit of %d bytes, little of which it used, %d and %d bytes are reported", limit, e.MemoryLimit, e.MemoryPeak)
	}
}

func TestProcessIdentity(t *testing.T) {
	n := newNode(t)
	p := n.create(container{id: "a", script: "exit 0"})
	if p.PID <= 1 || p.StartTime == 0 {
		t.Errorf("the process is %+v", p)
	}
	again, err := n.client.Create(context.Background(), n.request(container{id: "a", script: "exit 0"}))
	if err != nil || again != p {
		t.Errorf("a second Create gave %+v, %v; the first %+v", again, err, p)
	}
	list, err := n.client.List(context.Background())
	if err != nil || len(list) != 1 || list[0].ID != "a" || list[0].Process != p || list[0].Exit != nil {
		t.Errorf("List gave %+v, %v", list, err)
	}
	if err := n.client.Forget(context.Background(), "a"); !errors.Is(err, monitor.ErrRunning) {
		t.Errorf("Forget of a running container gave %v", err)
	}
}

func TestRuntimeSaysNo(t *testing.T) {
	n := newNode(t)
	r := n.request(container{id: "bad", script: "true"})
	if err := os.WriteFile(filepath.Join(r.Bundle, "config.json"), []byte(`{"ociVersion":"1.0.0"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := n.client.Create(context.Background(), r)
	var runtimeErr *monitor.RuntimeError
	if !errors.As(err, &runtimeErr) {
		t.Fatalf("Create gave %v", err)
	}
	if runtimeErr.Op != "create" || runtimeErr.ExitCode != 1 || runtimeErr.TimedOut || runtimeErr.Message == "" || runtimeErr.Stderr == "" {
		t.Errorf("the error is %+v", runtimeErr)
	}
	if list, err := n.client.List(context.Background()); err != nil || len(list) != 0 {
		t.Errorf("List gave %v, %v", list, err)
	}
	// The id can be used at once.
	n.run(container{id: "bad", script: "exit 4"})
	if e := n.exits(0, "bad")["bad"]; e.Code != 4 {
		t.Errorf("the second try ended with %+v", e)
	}
}

func TestCreateThatIsRefused(t *testing.T) {
	n := newNode(t)
	refuse := func(name string, want error, change func(*monitor.CreateRequest)) {
		t.Run(name, func(t *testing.T) {
			_, err := n.client.Create(context.Background(), n.request(container{id: name, script: "true", change: change}))
			if err == nil || want != nil && !errors.Is(err, want) {
				t.Errorf("Create gave %v", err)
			}
			if list, err := n.client.List(context.Background()); err != nil || len(list) != 0 {
				t.Errorf("List gave %v, %v", list, err)
			}
		})
	}
	refuse("relative-runtime", nil, func(r *monitor.CreateRequest) { r.Runtime = "runc" })
	refuse("no-runtime", nil, func(r *monitor.CreateRequest) { r.Runtime = "/nowhere/runc" })
	refuse("no-bundle", nil, func(r *monitor.CreateRequest) { r.Bundle = "/nowhere" })
	refuse("relative-log", nil, func(r *monitor.CreateRequest) { r.LogPath = "0.log" })
	refuse("log-climbs", nil, func(r *monitor.CreateRequest) { r.LogPath = n.dir + "/x/../0.log" })
	outside := filepath.Join(n.dir, "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	refuse("log-dir-is-link", nil, func(r *monitor.CreateRequest) {
		link := filepath.Join(n.dir, "link")
		if err := os.Symlink(outside, link); err != nil {
			t.Fatal(err)
		}
		r.LogPath = filepath.Join(link, "0.log")
	})
	refuse("log-is-link", nil, func(r *monitor.CreateRequest) {
		link := filepath.Join(n.dir, "0.log")
		if err := os.Symlink(filepath.Join(outside, "0.log"), link); err != nil {
			t.Fatal(err)
		}
		r.LogPath = link
	})
	refuse("log-is-fifo", nil, func(r *monitor.CreateRequest) {
		r.LogPath = filepath.Join(n.dir, "fifo")
		if err := syscall.Mkfifo(r.LogPath, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	refuse("log-has-second-name", nil, func(r *monitor.CreateRequest) {
		precious := filepath.Join(n.dir, "precious")
		if err := os.WriteFile(precious, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		r.LogPath = filepath.Join(n.dir, "hard")
		if err := os.Link(precious, r.LogPath); err != nil {
			t.Fatal(err)
		}
	})
	if names, err := os.ReadDir(outside); err != nil || len(names) != 0 {
		t.Errorf("something was written through a link: %v, %v", names, err)
	}
}

// A runtime that hangs is killed at the deadline, with its children.
func TestRuntimeThatHangs(t *testing.T) {
	n := newNode(t)
	pids := filepath.Join(n.dir, "pids")
	hang := filepath.Join(n.dir, "hang")
	script := fmt.Sprintf("#!/bin/sh\necho stuck >&2\nsleep 1000 &\necho $$ $! > %s.new; mv %s.new %s\nwait\n", pids, pids, pids)
	if err := os.WriteFile(hang, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := n.client.Create(context.Background(), n.request(container{id: "a", change: func(r *monitor.CreateRequest) {
		r.Runtime = hang
		r.Deadline = 300 * time.Millisecond
	}}))
	var runtimeErr *monitor.RuntimeError
	if !errors.As(err, &runtimeErr) || !runtimeErr.TimedOut || runtimeErr.Stderr != "stuck" {
		t.Fatalf("Create gave %#v", err)
	}
	var shell, sleep int
	data, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(data), &shell, &sleep); err != nil {
		t.Fatal(err)
	}
	n.eventually("the runtime and its child are gone", func() bool { return gone(shell) && gone(sleep) })
}

func TestManyAtOnce(t *testing.T) {
	n := newNode(t)
	const count = 64
	requests := make([]monitor.CreateRequest, count)
	ids := make([]string, count)
	for i := range requests {
		ids[i] = fmt.Sprintf("c%02d", i)
		requests[i] = n.request(container{id: ids[i], script: fmt.Sprintf("echo line %d; exit %d", i, i)})
	}
	var wg sync.WaitGroup
	for _, r := range requests {
		wg.Go(func() {
			if _, err := n.client.Create(context.Background(), r); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, id := range ids {
		n.start(id)
	}
	exits := n.exits(0, ids...)
	for i, id := range ids {
		if e := exits[id]; e.Code != i || e.Unknown != "" {
			t.Errorf("%s ended with %+v", id, e)
		}
		// The log is complete when the exit is known.
		if got, want := lines(n.records(n.log(id)), "stdout"), []string{fmt.Sprint("line ", i)}; !reflect.DeepEqual(got, want) {
			t.Errorf("the log of %s has %q, want %q", id, got, want)
		}
	}
}

// Orphans in a container that has no PID namespace of its own come to the
// monitor, which reaps them.
func TestOrphansAreReaped(t *testing.T) {
	n := newNode(t)
	r := n.request(container{id: "a", script: "(sh -c 'echo $$; exit 5' &) ; sleep 1000"})
	config := filepath.Join(r.Bundle, "config.json")
	data, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(strings.Replace(string(data), `{"type":"pid"},`, "", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := n.client.Create(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	n.start("a")
	var orphan int
	n.eventually("the orphan has written its pid", func() bool {
		all := lines(n.records(n.log("a")), "stdout")
		if len(all) == 0 {
			return false
		}
		_, err := fmt.Sscan(all[0], &orphan)
		return err == nil
	})
	n.eventually("the orphan is gone", func() bool { return gone(orphan) })
}

func TestOneContainer(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "one", script: "sleep 1000"})
	process := n.run(container{id: "two", script: "sleep 1000"})
	if got, err := n.client.Container(t.Context(), "two"); err != nil || got.ID != "two" || got.Process != process || got.Exit != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := n.client.Container(t.Context(), "three"); !errors.Is(err, monitor.ErrNotFound) {
		t.Errorf("an unknown container: %v", err)
	}
	for _, id := range []string{"one", "two"} {
		if err := n.client.Signal(t.Context(), id, int(syscall.SIGKILL)); err != nil {
			t.Error(err)
		}
	}
}
