package monitor_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stele-runtime/stele/executors/monitor"
)

func (n *node) attach(r monitor.AttachRequest) *monitor.Attachment {
	n.t.Helper()
	a, err := n.client.Attach(context.Background(), r)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(a.Close)
	return a
}

// withInput gives a container standard input.
func withInput(once bool) func(*monitor.CreateRequest) {
	return func(r *monitor.CreateRequest) { r.Stdin, r.StdinOnce = true, once }
}

// Many clients see the same output, and their input arrives.
func TestAttach(t *testing.T) {
	n := newNode(t)
	const count = 10000
	script := fmt.Sprintf("read word; i=0; while [ $i -lt %d ]; do echo $i $word; i=$((i+1)); done; echo complaint >&2; exit 3", count)
	n.create(container{id: "a", script: script, change: withInput(false)})
	var attached []*monitor.Attachment
	for i := range 5 {
		attached = append(attached, n.attach(monitor.AttachRequest{ContainerID: "a", Stdin: i == 0, Stdout: true, Stderr: i%2 == 0}))
	}
	n.start("a")
	if _, err := attached[0].Stdin.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i, a := range attached {
		wg.Go(func() {
			scanner, next := bufio.NewScanner(a.Stdout), 0
			for ; scanner.Scan(); next++ {
				if scanner.Text() != fmt.Sprint(next, " hello") {
					t.Errorf("client %d: line %d is %q", i, next, scanner.Text())
					return
				}
			}
			if next != count {
				t.Errorf("client %d got %d lines", i, next)
			}
			if a.Stderr != nil {
				if text, err := io.ReadAll(a.Stderr); err != nil || string(text) != "complaint\n" {
					t.Errorf("client %d got %q on stderr, %v", i, text, err)
				}
			}
			if err := a.Wait(); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if e := n.exits(0, "a")["a"]; e.Code != 3 {
		t.Errorf("a ended with %+v", e)
	}
	if got := lines(n.records(n.log("a")), "stdout"); len(got) != count {
		t.Errorf("the log has %d lines", len(got))
	}
	if _, err := n.client.Attach(context.Background(), monitor.AttachRequest{ContainerID: "nobody"}); !errors.Is(err, monitor.ErrNotFound) {
		t.Errorf("attaching to nobody gave %v", err)
	}
}

// CVE-2025-64329: clients that attach and go, or never read, leave no goroutine and no
// descriptor, here and in the monitor.
func TestAttachLeavesNothingCVE2025_64329(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "while echo output; do sleep 0.01; done", change: withInput(false)})
	attach := func() {
		for i := range 10 {
			a := n.attach(monitor.AttachRequest{ContainerID: "a", Stdin: i%2 == 0, Stdout: true, Stderr: true})
			if i%3 == 0 {
				if _, err := a.Stdout.Read(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			}
			a.Close()
		}
	}
	attach()
	server := n.started[len(n.started)-1]
	goroutines, here, there := runtime.NumGoroutine(), descriptors(t, os.Getpid()), descriptors(t, server)
	for range 3 {
		attach()
	}
	n.eventually("no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines })
	n.eventually("no descriptor is left", func() bool {
		return descriptors(t, os.Getpid()) <= here && descriptors(t, server) <= there
	})
}

// A client that does not read blocks nothing, and gets an error.
func TestSlowClient(t *testing.T) {
	n := newNode(t)
	const blocks, block = 16, 500000
	script := fmt.Sprintf("while read word; do head -c %d /dev/zero; done; exit 3", block)
	n.run(container{id: "a", script: script, change: withInput(true)})
	slow := n.attach(monitor.AttachRequest{ContainerID: "a", Stdout: true})
	quick := n.attach(monitor.AttachRequest{ContainerID: "a", Stdin: true, Stdout: true})
	for i := range blocks {
		if _, err := quick.Stdin.WriteString("more\n"); err != nil {
			t.Fatal(err)
		}
		if size, err := io.CopyN(io.Discard, quick.Stdout, block); err != nil {
			t.Fatalf("the quick client got %d bytes of block %d, %v", size, i, err)
		}
	}
	if err := slow.Wait(); !errors.Is(err, monitor.ErrTooSlow) {
		t.Errorf("the slow client got %v", err)
	}
	quick.Stdin.Close()
	if err := quick.Wait(); err != nil {
		t.Errorf("the quick client got %v", err)
	}
	if e := n.exits(0, "a")["a"]; e.Code != 3 {
		t.Errorf("a ended with %+v", e)
	}
}

// With stdin_once the first client's end closes the input; without it, it does not. The
// end of a client, or its detaching, has no other effect.
func TestAttachedInputEnds(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "once", script: "cat; " + waitForGo + "exit 5", change: withInput(true)})
	n.run(container{id: "open", script: "cat; exit 6", change: withInput(false)})
	for _, id := range []string{"once", "open"} {
		a := n.attach(monitor.AttachRequest{ContainerID: id, Stdin: true, Stdout: true})
		if _, err := a.Stdin.WriteString("first\n"); err != nil {
			t.Fatal(err)
		}
		a.Stdin.Close()
		if line, err := bufio.NewReader(a.Stdout).ReadString('\n'); err != nil || line != "first\n" {
			t.Errorf("%s echoed %q, %v", id, line, err)
		}
		if id == "open" {
			a.Close()
		}
	}
	for range 2 {
		if list, err := n.client.List(context.Background()); err != nil || len(list) != 2 || !list[0].StdinClosed || list[1].StdinClosed {
			t.Errorf("List gave %+v, %v", list, err)
		}
		n.killMonitor()
	}
	n.release()
	if e := n.exits(0, "once")["once"]; e.Code != 5 {
		t.Errorf("once ended with %+v", e)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a, err := n.client.Attach(ctx, monitor.AttachRequest{ContainerID: "open", Stdin: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.Stdin.WriteString("second\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(a.Stdout).ReadString('\n'); err != nil || line != "second\n" {
		t.Errorf("it echoed %q, %v", line, err)
	}
	cancel()
	if err := a.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("the canceled attachment gave %v", err)
	}
	if _, err := io.ReadAll(a.Stdout); err != nil {
		t.Error(err)
	}
	n.eventually("the log has both", func() bool { return len(lines(n.records(n.log("open")), "stdout")) == 2 })
}

// When the monitor dies attachments end with ErrLost, and the client can attach again;
// the container's input stays open.
func TestAttachAgain(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "cat; exit 5", change: withInput(true)})
	a := n.attach(monitor.AttachRequest{ContainerID: "a", Stdin: true, Stdout: true})
	n.killMonitor()
	if err := a.Wait(); !errors.Is(err, monitor.ErrLost) {
		t.Errorf("the attachment ended with %v", err)
	}
	if text, err := io.ReadAll(a.Stdout); err != nil || len(text) != 0 {
		t.Errorf("it has %q, %v", text, err)
	}
	if err := n.client.Upgrade(context.Background()); err != nil {
		t.Fatal(err)
	}
	a = n.attach(monitor.AttachRequest{ContainerID: "a", Stdin: true, Stdout: true})
	if _, err := a.Stdin.WriteString("anew\n"); err != nil {
		t.Fatal(err)
	}
	a.Stdin.Close()
	if text, err := io.ReadAll(a.Stdout); err != nil || string(text) != "anew\n" {
		t.Errorf("it has %q, %v", text, err)
	}
	if e := n.exits(0, "a")["a"]; e.Code != 5 {
		t.Errorf("a ended with %+v", e)
	}
}

// withTerminal changes a bundle so that the process gets a terminal.
func withTerminal(t *testing.T) func(*monitor.CreateRequest) {
	return func(r *monitor.CreateRequest) {
		path := filepath.Join(r.Bundle, "config.json")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var spec specs.Spec
		if err := json.Unmarshal(data, &spec); err != nil {
			t.Fatal(err)
		}
		spec.Process.Terminal = true
		if data, err = json.Marshal(spec); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		r.Terminal, r.Stdin = true, true
	}
}

// A terminal is logged, typed into, resized, and outlives the monitor.
func TestTerminal(t *testing.T) {
	n := newNode(t)
	n.create(container{id: "a", script: "echo begin; while read line; do echo got $line; stty size; [ $line = end ] && exit 7; done", change: withTerminal(t)})
	if err := n.client.Resize(context.Background(), "a", 100, 40); err != nil {
		t.Error(err)
	}
	n.start("a")
	typed := func(word string, width, height uint16) {
		t.Helper()
		if err := n.client.Resize(context.Background(), "a", width, height); err != nil {
			t.Error(err)
		}
		a := n.attach(monitor.AttachRequest{ContainerID: "a", Stdin: true, Stdout: true})
		defer a.Close()
		if _, err := a.Stdin.WriteString(word + "\n"); err != nil {
			t.Fatal(err)
		}
		reader := bufio.NewReader(a.Stdout)
		var all bytes.Buffer
		for !strings.Contains(all.String(), fmt.Sprintf("%d %d\r\n", height, width)) {
			line, err := reader.ReadString('\n')
			all.WriteString(line)
			if err != nil {
				t.Fatalf("after %q came %v", all.String(), err)
			}
		}
		if !strings.Contains(all.String(), "got "+word+"\r\n") {
			t.Errorf("the terminal said %q", all.String())
		}
	}
	typed("first", 90, 30)
	n.killMonitor()
	typed("second", 91, 31)
	if err := n.client.Upgrade(context.Background()); err != nil {
		t.Error(err)
	}
	typed("third", 92, 32)
	n.client.Close()
	n.connect()
	typed("end", 93, 33)
	e := n.exits(0, "a")["a"]
	if e.Code != 7 || e.Note != "" {
		t.Errorf("a ended with %+v", e)
	}
	got := strings.Join(lines(n.records(n.log("a")), "stdout"), "|")
	for _, want := range []string{"begin\r", "got first\r", "30 90\r", "got second\r", "got third\r", "got end\r", "33 93\r"} {
		if !strings.Contains(got, want) {
			t.Errorf("the log lacks %q: %q", want, got)
		}
	}
}

// A terminal that no process holds hangs up, and the exit says so.
func TestTerminalIsLost(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "trap 'exit 9' HUP; echo ready; while true; do sleep 0.05; done", change: withTerminal(t)})
	n.run(container{id: "b", script: "trap '' HUP; echo ready; " + waitForGo + "exit 8", change: withTerminal(t)})
	// Before its trap is set, the first process of a PID namespace is deaf to signals.
	// And the runtime's own init, which a hang-up ends, may not have become the shell yet.
	n.eventually("the traps are set", func() bool { return len(n.records(n.log("a"))) == 1 && len(n.records(n.log("b"))) == 1 })
	n.killBoth(true)
	n.connect()
	n.release()
	exits := n.exits(0, "a", "b")
	if e := exits["b"]; e.Code != 8 || e.Note == "" {
		t.Errorf("b ended with %+v", e)
	}
	if e := exits["a"]; e.Unknown == "" && e.Code != 9 {
		t.Errorf("a ended with %+v", e)
	}
}

// What a full disk refuses is counted and reported, and the next monitor counts on.
func TestLosses(t *testing.T) {
	n := newNode(t)
	small := n.smallDisk("small", "size=64k")
	// Nothing fits: how much is lost must not depend on how the output is read in pieces.
	n.fillUp(small)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n.run(container{id: "a", script: "head -c 200000 /dev/zero | tr '\\0' x; echo; " + waitForGo + "head -c 100000 /dev/zero | tr '\\0' x; echo; exit 3", change: func(r *monitor.CreateRequest) {
		r.LogPath = filepath.Join(small, "0.log")
	}})
	// lost waits until want bytes are lost, of more than have been reported before.
	lost := func(told, want uint64) {
		t.Helper()
		for l := range n.client.Losses(ctx) {
			if l.ContainerID != "a" || l.Bytes <= told || l.Bytes > want || l.Reason == "" {
				t.Fatalf("the loss is %+v, want more than %d bytes and at most %d", l, told, want)
			}
			if told = l.Bytes; told == want {
				return
			}
		}
		t.Fatalf("%d lost bytes were reported, want %d", told, want)
	}
	lost(0, 200000)
	if err := n.client.Upgrade(ctx); err != nil {
		t.Fatal(err)
	}
	lost(199999, 200000)
	n.killMonitor()
	lost(199999, 200000)
	n.release()
	// A new subscriber first hears of what was lost before.
	lost(199999, 300000)
	if e := n.exits(0, "a")["a"]; e.Code != 3 {
		t.Errorf("a ended with %+v", e)
	}
}
