package monitor_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stele-runtime/stele/executors/monitor"
)

func TestLogConformance(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: `
		echo to stdout; echo to stderr >&2
		echo
		printf '\001\377\000binary\n'
		head -c 16384 /dev/zero | tr '\000' a; echo
		head -c 40000 /dev/zero | tr '\000' b; echo
		printf 'no newline'; exit 0`})
	n.exits(0, "a")
	info, err := os.Stat(n.log("a"))
	if err != nil || info.Mode() != 0o640 {
		t.Errorf("the log has mode %v, %v", info.Mode(), err)
	}
	records := n.records(n.log("a"))
	var previous record
	for i, r := range records {
		if r.time.Before(previous.time) {
			t.Errorf("record %d is older than the one before it", i)
		}
		if len(r.content) > 16<<10 {
			t.Errorf("record %d has %d bytes of content", i, len(r.content))
		}
		previous = r
	}
	want := []string{
		"to stdout", "", "\x01\xff\x00binary",
		strings.Repeat("a", 16384), strings.Repeat("b", 40000), "no newline",
	}
	if got := lines(records, "stdout"); !reflect.DeepEqual(got, want) {
		t.Errorf("stdout has %.200q", got)
	}
	if got := lines(records, "stderr"); !reflect.DeepEqual(got, []string{"to stderr"}) {
		t.Errorf("stderr has %q", got)
	}
}

// A prompt is in the log before its line ends.
func TestUnfinishedLine(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: `printf 'name? '; while [ ! -e /go ]; do sleep 0.05; done; echo anonymous`})
	n.eventually("the prompt is in the log", func() bool {
		records := n.records(n.log("a"))
		return len(records) == 1 && records[0].content == "name? " && !records[0].full
	})
	if err := os.WriteFile(filepath.Join(n.rootfs, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	n.exits(0, "a")
	if got := lines(n.records(n.log("a")), "stdout"); !reflect.DeepEqual(got, []string{"name? anonymous"}) {
		t.Errorf("the log has %q", got)
	}
}

// No line is lost or doubled when the log is reopened while it is written.
func TestReopenUnderLoad(t *testing.T) {
	n := newNode(t)
	const last = 400000
	n.run(container{id: "a", script: fmt.Sprintf("seq 1 %d", last)})
	var logs []string
	for i := range 50 {
		old := fmt.Sprintf("%s.%02d", n.log("a"), i)
		if err := os.Rename(n.log("a"), old); err != nil {
			t.Fatal(err)
		}
		if err := n.client.ReopenLog(context.Background(), "a"); err != nil {
			t.Fatal(err)
		}
		logs = append(logs, old)
	}
	n.exits(0, "a")
	got := lines(n.records(append(logs, n.log("a"))...), "stdout")
	if len(got) != last {
		t.Errorf("there are %d lines, want %d", len(got), last)
	}
	for i, line := range got {
		if line != fmt.Sprint(i+1) {
			t.Fatalf("line %d is %q", i+1, line)
		}
	}
	// Also after the end, of which the caller may not know.
	if err := os.Remove(n.log("a")); err != nil {
		t.Fatal(err)
	}
	if err := n.client.ReopenLog(context.Background(), "a"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(n.log("a")); err != nil {
		t.Error(err)
	}
}

// If the log can't be reopened, the old one stays in use.
func TestReopenFails(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "while [ ! -e /go ]; do sleep 0.05; done; echo here"})
	dir := filepath.Dir(n.log("a"))
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(n.dir, dir); err != nil {
		t.Fatal(err)
	}
	if err := n.client.ReopenLog(context.Background(), "a"); err == nil {
		t.Error("the log was opened through a link")
	}
	if err := os.WriteFile(filepath.Join(n.rootfs, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	n.exits(0, "a")
	if got := lines(n.records(filepath.Join(dir+".old", "0.log")), "stdout"); !reflect.DeepEqual(got, []string{"here"}) {
		t.Errorf("the log has %q", got)
	}
}

func TestMaxLogSize(t *testing.T) {
	n := newNode(t)
	const limit, last = 64 << 10, 20000
	n.run(container{id: "a", script: fmt.Sprintf("seq 1 %d", last), change: func(r *monitor.CreateRequest) { r.MaxLogSize = limit }})
	n.exits(0, "a")
	info, err := os.Stat(n.log("a"))
	if err != nil || info.Size() > limit || info.Size() == 0 {
		t.Errorf("the log has %d bytes, %v", info.Size(), err)
	}
	got := lines(n.records(n.log("a")), "stdout")
	for i, line := range got {
		if line != fmt.Sprint(last-len(got)+1+i) {
			t.Fatalf("line %d of %d is %q", i, len(got), line)
		}
	}
}

// Without a log the container does not block.
func TestNoLog(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "seq 1 100000; exit 3", change: func(r *monitor.CreateRequest) { r.LogPath = "" }})
	if e := n.exits(0, "a")["a"]; e.Code != 3 {
		t.Errorf("the exit is %+v", e)
	}
}

// Nor does it with a log that can't be written. The loss is counted.
func TestFullDisk(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "seq 1 50000; exit 3", change: func(r *monitor.CreateRequest) {
		r.LogPath = n.smallDisk("small", "size=64k") + "/0.log"
	}})
	if e := n.exits(0, "a")["a"]; e.Code != 3 {
		t.Errorf("the exit is %+v", e)
	}
	list, err := n.client.List(context.Background())
	if err != nil || len(list) != 1 || list[0].LogLost == 0 || list[0].LogError == "" {
		t.Fatalf("List gave %+v, %v", list, err)
	}
	// What is in the log is whole.
	all := n.records(filepath.Join(n.dir, "small", "0.log"))
	written := 0
	for _, r := range all {
		written += len(r.content) + 1
	}
	total := 0
	for i := 1; i <= 50000; i++ {
		total += len(fmt.Sprint(i)) + 1
	}
	// Newlines are not counted among the lost bytes.
	if lost := int(list[0].LogLost); written+lost > total || written+2*lost < total {
		t.Errorf("%d bytes were written and %d lost of %d", written, lost, total)
	}
}

// A container that closes its output, and one that leaves a writer behind.
func TestOddWriters(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "closes", script: "echo before; exec >&- 2>&-; sleep 0.2; exit 2"})
	n.run(container{id: "floods", script: "echo x; yes & exit 4"})
	exits := n.exits(0, "closes", "floods")
	if exits["closes"].Code != 2 || exits["floods"].Code != 4 {
		t.Errorf("the exits are %+v", exits)
	}
	if got := lines(n.records(n.log("closes")), "stdout"); !reflect.DeepEqual(got, []string{"before"}) {
		t.Errorf("the log has %q", got)
	}
}

func TestStdin(t *testing.T) {
	n := newNode(t)
	// cat ends at once where standard input is /dev/null, and not on a pipe
	// that nobody writes to.
	n.run(container{id: "null", script: "cat; exit 1"})
	n.run(container{id: "pipe", script: "echo waiting; cat; exit 1", change: func(r *monitor.CreateRequest) { r.Stdin = true }})
	if e := n.exits(0, "null")["null"]; e.Code != 1 {
		t.Errorf("the exit is %+v", e)
	}
	n.eventually("the other one waits", func() bool { return len(n.records(n.log("pipe"))) == 1 })
	if list, err := n.client.List(context.Background()); err != nil || len(list) != 2 || list[1].Exit != nil {
		t.Errorf("List gave %+v, %v", list, err)
	}
}
