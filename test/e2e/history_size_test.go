package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestHistorySize: for keep_size, pods that have ended go, the oldest first, however young they
// are and however many may be kept. The files stay below it, and a pod that lives stays.
func TestHistorySize(t *testing.T) {
	t.Parallel()
	const keepSize, lives = 64 << 20, 44
	h := New(t, programs, Options{Config: "[history]\nkeep_for = \"1h\"\nkeep_pods = 1000\nkeep_size = \"64MiB\"\nkeep_settled_for = \"1s\"\n"})
	onNode := func(name string) *runtimeapi.PodSandboxConfig {
		config := h.PodConfig(name)
		config.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
		config.Hostname = ""
		return config
	}
	pod := h.RunPod(onNode("web"))
	pod.Run(h.ContainerConfig("app", "sleep", "1000"))
	before := h.everything()
	var ended []string
	for i := range lives {
		config := onNode(fmt.Sprintf("ends-%d", i))
		config.Annotations["large"] = strings.Repeat("x", 1<<20)
		ends := h.RunPod(config)
		ends.Remove()
		ended = append(ended, "sandbox/"+ends.ID)
		if size := logSize(t, h.Root); size > keepSize {
			t.Fatalf("after %d lives the files have %d bytes, and may have %d", i+1, size, keepSize)
		}
	}
	// What is there is the end of the list of those that have ended.
	left := func() []string {
		events := h.Stele("events", "-o", "json")
		return slices.DeleteFunc(slices.Clone(ended), func(s string) bool { return !strings.Contains(events, `"`+s+`"`) })
	}
	h.Eventually("the oldest goes", func() bool { return len(left()) < lives })
	switch there := left(); {
	case len(there) == 0:
		t.Error("all that has ended is gone")
	case !slices.Equal(there, ended[lives-len(there):]):
		t.Errorf("not the oldest have gone: of %v, there are %v", ended, there)
	}
	expectUnchanged(t, before, h.everything())
	says(t, "log verify", h.Stele("log", "verify"), "nothing is damaged")
	says(t, "events", h.Stele("events"), "web", "for the log's size")
	if size := logSize(t, h.Root); size > keepSize {
		t.Errorf("the files have %d bytes, and may have %d", size, keepSize)
	}
	pod.Remove()
	h.Audit()
}

// logSize is the size of a log's files, without the copy that a compaction makes of it.
func logSize(t *testing.T, root string) (bytes int64) {
	t.Helper()
	for _, name := range []string{"events.db", "events.db.journal"} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		bytes += info.Size()
	}
	return bytes
}
