package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
)

// TestHistory: of pods that have ended the log keeps the newest, of a pod that lives no exec that
// has ended. What was removed is reported as such, and List says the same before and after,
// also by a daemon that has nothing but the log.
func TestHistory(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{Config: "[history]\nkeep_for = \"2s\"\nkeep_pods = 1\nkeep_settled_for = \"1s\"\n"})
	pod := h.RunPod(h.PodConfig("web"))
	id := pod.Run(h.ContainerConfig("app", "sleep", "1000"))
	for range 10 {
		h.Exec(id, "true")
	}
	var gone []string
	for _, name := range []string{"first", "second", "last"} {
		ends := h.RunPod(h.PodConfig(name))
		ends.Run(h.ContainerConfig("app", "sleep", "1000"))
		ends.Remove()
		gone = append(gone, "sandbox/"+ends.ID)
	}
	before := h.everything()
	h.Eventually("all that is old goes", func() bool {
		streams := h.Stele("events", "-o", "json")
		return !strings.Contains(streams, gone[0]) && !strings.Contains(streams, gone[1]) && strings.Count(streams, "container.ExecEnded.v1") <= 1
	})
	expectUnchanged(t, before, h.everything())
	events := h.Stele("events")
	says(t, "events", events, "web", "last", "not all is in the log any more", "for their age", "of what was over")
	if !strings.Contains(h.Stele("events", "-o", "json"), gone[2]) {
		t.Error("the newest pod that ended is gone, too")
	}
	says(t, "replay --verify", h.Stele("replay", "--verify"), "Equal after sequence")
	for range 2 {
		h.Exec(id, "true")
	}

	h.Daemon.Stop()
	withoutCheckpoints(t, filepath.Join(h.Root, "events.db"))
	h.Daemon.Start()
	expectUnchanged(t, before, h.everything())
	h.Exec(id, "true")
	h.Daemon.Kill9()
	h.Daemon.Start()
	expectUnchanged(t, before, h.everything())
	pod.Remove()
	h.Audit()
}

// withoutCheckpoints makes a start read the whole log of a stopped daemon, and check that the
// log is whole.
func withoutCheckpoints(t *testing.T, path string) {
	t.Helper()
	log, err := boltlog.Open(boltlog.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	for _, name := range []string{"projections", "keeper"} {
		if err := log.SaveCheckpoint(t.Context(), name, eventlog.Delta{Checkpoint: eventlog.Checkpoint{Sequence: 1}, Replace: true}); err != nil {
			t.Fatal(err)
		}
	}
	report, err := log.Verify(t.Context())
	if err != nil || !report.OK() || report.Removed.Total() == 0 {
		t.Errorf("verify: %+v (%v)", report, err)
	}
}
