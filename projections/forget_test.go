package projections

import (
	"testing"

	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// What was removed from the log is not remembered, neither now nor by the next daemon.
func TestForget(t *testing.T) {
	log := newMemlog(t)
	lived(t, log, "p1", "c1")
	lived(t, log, "p2", "c2")
	pull := func() {
		t.Helper()
		a := newImage("docker.io/a:1")
		for r := range log.ReadStream(t.Context(), a.stream, 1) {
			a.at.Version = r.Version
		}
		for _, c := range []image.Command{image.RequestPull{Ref: "docker.io/a:1", Pull: "x", At: epoch}, image.FetchImageDone{Pull: "x", ImageID: "i"}} {
			if err := a.do(log, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	pull()
	f := opened(t, log)
	save(t, f)
	before := f.History.Ended()
	const reference eventlog.Stream = "image/docker.io/a:1"
	for _, stream := range []eventlog.Stream{"container/c1", "sandbox/p1", reference} {
		info, _, err := log.Stream(t.Context(), stream)
		if err == nil {
			err = log.Trim(t.Context(), eventlog.Trim{Stream: stream, Through: info.Version, Whole: true, Rule: "age"})
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Forget(stream)
	}
	if len(before) != 4 || before[0].Stream != "container/c1" {
		t.Errorf("a list that was handed out changed: %v", before)
	}
	if at, known := f.Image(t.Context(), reference); !known || at.Version != 0 {
		t.Errorf("the image's stream is said to be at version %d (%t)", at.Version, known)
	}
	check := func(f *Feed, when string) {
		t.Helper()
		if ended := f.History.Ended(); len(ended) != 2 || ended[0].Stream != "container/c2" || ended[1].Stream != "sandbox/p2" {
			t.Errorf("%s: %d streams are remembered", when, len(ended))
		}
		if at, known := f.Image(t.Context(), reference); !known || at.Version != 0 && at.Version != 2 {
			t.Errorf("%s: the image's stream is said to be at version %d (%t)", when, at.Version, known)
		}
		if damaged := f.Live.Damaged(); len(damaged) > 0 {
			t.Errorf("%s: damaged: %v", when, damaged)
		}
	}
	check(f, "at once")
	save(t, f)
	check(opened(t, log), "from a checkpoint")
	pull() // The stream begins anew.
	check(opened(t, log), "from a checkpoint and the rest")
	running(t, f)
	check(f, "after the rest")
}

// A checkpoint may be older than the end of something that was then removed from the log.
func TestGoneBehindTheCheckpoint(t *testing.T) {
	log := newMemlog(t)
	s, other := newSandbox("p1"), newSandbox("other")
	run := runOf("p1", epoch)
	run.HostNetwork, run.SharedPID = true, false
	steps := []error{s.do(log, run), other.do(log, runOf("other", epoch))}
	save(t, opened(t, log))
	for _, c := range []sandbox.Command{sandbox.Remove{}, sandbox.ReleaseSandboxDone{}} {
		steps = append(steps, s.do(log, c))
	}
	if !sandbox.Ended(s.at.State) {
		t.Fatal("the pod has not ended", s.at.State.Phase)
	}
	steps = append(steps, log.Trim(t.Context(), eventlog.Trim{Stream: s.stream, Through: s.at.Version, Whole: true, Rule: "size"}))
	for _, err := range steps {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, when := range []string{"from the checkpoint", "from the next one"} {
		f := opened(t, log)
		if f.Live.Sandbox("p1") != nil || f.Live.Sandbox("other") == nil || len(f.Live.Past().Sandboxes) != 1 {
			t.Errorf("%s: a pod that is gone lives", when)
		}
		save(t, f)
	}
}
