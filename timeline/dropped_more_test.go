package timeline

import (
	"strings"
	"testing"
)

// TestMissingEvents: what retention removed of a pod's streams is said with it, and of others' not.
func TestMissingEvents(t *testing.T) {
	line := timelineOf(stories(t)["stop_at_once"].records)
	pod := line.Pods()[0]
	c := line.Containers(pod)[0]
	explained := func() string {
		return strings.Join(append(line.ExplainPod(pod, line.Last), line.ExplainContainer(c, line.Last)...), "\n")
	}
	line.Missing.Add(Dropped{Records: 7, Stream: "container/other", Rules: map[string]uint64{"age": 7}})
	if got := explained(); strings.Contains(got, "any more") {
		t.Errorf("of another's: %s", got)
	}
	for range 2 {
		line.Missing.Add(Dropped{Records: 1000, Stream: "container/" + string(c.State.ID), Rules: map[string]uint64{"settled": 1000}})
	}
	line.Missing.Add(Dropped{Records: 1, Stream: "sandbox/" + string(pod.State.ID), Rules: map[string]uint64{"settled": 1}})
	got := explained()
	for _, want := range []string{
		"Not all of its events are in the log any more: 2,001 records were dropped: of what was over and leaves no trace.",
		"Not all of its events are in the log any more: 2,000 records were dropped: of what was over and leaves no trace.",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("not said: %q\n%s", want, got)
		}
	}
}
