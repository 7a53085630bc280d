package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestLogs(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("logs"))

	t.Run("content", func(t *testing.T) { logContent(t, h.In(t), pod) })
	t.Run("times ascend", func(t *testing.T) { logTimesAscend(t, h.In(t), pod) })
	t.Run("long lines are cut", func(t *testing.T) { logLongLinesAreCut(t, h.In(t), pod) })
	t.Run("no log path", func(t *testing.T) { logWithoutPath(t, h.In(t), pod) })
	t.Run("reopen", func(t *testing.T) { logReopen(t, h.In(t), pod) })
}

func logContent(t *testing.T, h *Harness, pod *Pod) {
	// Two streams, a line with blanks, an empty one, one without its end.
	config := h.ContainerConfig("content", "sh", "-c", "echo one; echo two >&2; echo ' three  four '; echo; printf five")
	id := pod.Run(config)
	h.WaitExit(id)
	got := map[string]string{}
	for _, l := range pod.Log(config) {
		got[l.Stream] += "|" + l.Tag + " " + l.Text
	}
	want := map[string]string{"stdout": "|F one|F  three  four |F |P five", "stderr": "|F two"}
	if !maps.Equal(got, want) {
		t.Errorf("the log is %q, want %q", got, want)
	}
	info, err := os.Stat(filepath.Join(pod.Config.LogDirectory, config.LogPath))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the log's mode is %v, %v; want 0640", info.Mode(), err)
	}
}

func logTimesAscend(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("times", "seq", "5000")
	h.WaitExit(pod.Run(config))
	var before time.Time
	number, line := 1, ""
	for _, l := range pod.Log(config) {
		if l.Time.Before(before) {
			t.Fatalf("%+v is older than the record before", l)
		}
		// seq writes blocks, not lines: on a busy machine a line may come in two pieces.
		before, line = l.Time, line+l.Text
		if l.Tag == "P" {
			continue
		}
		if line != strconv.Itoa(number) {
			t.Fatalf("line %d is %q", number, line)
		}
		number, line = number+1, ""
	}
	if number != 5001 {
		t.Fatalf("the log ends before line %d, want 5000", number)
	}
}

func logLongLinesAreCut(t *testing.T, h *Harness, pod *Pod) {
	config := h.TesterConfig("long", "flood", "100000")
	h.WaitExit(pod.Run(config))
	var total int
	for _, l := range pod.Log(config) {
		if len(l.Text) > 16<<10 {
			t.Errorf("a record has %d bytes of content, want at most 16 KiB", len(l.Text))
		}
		total += len(l.Text)
	}
	if total != 100000 {
		t.Errorf("%d bytes in the log, want 100000", total)
	}
}

func logWithoutPath(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("quiet", "seq", "100000")
	config.LogPath = ""
	if code := h.WaitExit(pod.Run(config)).ExitCode; code != 0 {
		t.Errorf("a container whose output is dropped ended with %d", code)
	}
}

func logReopen(t *testing.T, h *Harness, pod *Pod) {
	config := h.TesterConfig("reopen", "count")
	id := pod.Run(config)
	path := filepath.Join(pod.Config.LogDirectory, config.LogPath)
	const rounds = 5
	for round := range rounds {
		h.Eventually("the log grows", func() bool { return len(h.ReadLog(path)) > 5 })
		if err := os.Rename(path, fmt.Sprintf("%s.%d", path, round)); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Runtime.ReopenContainerLog(h.Context(), &runtimeapi.ReopenContainerLogRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
	}
	h.Eventually("the log grows", func() bool { return len(h.ReadLog(path)) > 5 })
	h.StopContainer(id, 0)
	var all []LogLine
	for round := range rounds {
		all = append(all, h.ReadLog(fmt.Sprintf("%s.%d", path, round))...)
	}
	for i, l := range append(all, h.ReadLog(path)...) {
		if l.Text != strconv.Itoa(i) {
			t.Fatalf("record %d over all files is %q: lost or doubled", i, l.Text)
		}
	}
	// One that does not run, yet or any more, gets an error and no new file.
	fresh := h.TesterConfig("reopen-created", "count")
	created := pod.Create(fresh)
	for id, path := range map[string]string{id: path, created: filepath.Join(pod.Config.LogDirectory, fresh.LogPath)} {
		if err := os.Rename(path, path+".rotated"); err != nil {
			t.Fatal(err)
		}
		_, err := h.Runtime.ReopenContainerLog(h.Context(), &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
		h.Refused(err, codes.FailedPrecondition, id, "not running")
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("there is a new file after the error: %v", err)
		}
		if err := os.Rename(path+".rotated", path); err != nil {
			t.Fatal(err)
		}
	}
}
