package show

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stele-runtime/stele/timeline"
)

// node is the incident's node a minute after its begin.
func node(t *testing.T) Node {
	t.Helper()
	return Node{Timeline: incident(t), Now: start.Add(time.Minute)}
}

func TestTables(t *testing.T) {
	n := node(t)
	for name, write := range map[string]func(io.Writer) error{
		"pods":      func(to io.Writer) error { return n.Pods(to, false) },
		"pods_wide": func(to io.Writer) error { return n.Pods(to, true) },
		"pods_yaml": func(to io.Writer) error { return n.PodsJSON(to, AsYAML) },
		"ps":        func(to io.Writer) error { return n.Containers(to, false) },
		"ps_wide":   func(to io.Writer) error { return n.Containers(to, true) },
		"ps_json":   func(to io.Writer) error { return n.ContainersJSON(to, AsJSON) },
		"replay":    Replayed{Node: n, Sequence: 24}.Text,
		"replay_json": func(to io.Writer) error {
			return Replayed{Node: n, Sequence: 24}.Structured(to, AsJSON)
		},
		"replay_nothing": Replayed{Node: Node{Timeline: timeline.New()}}.Text,
		"diff": func(to io.Writer) error {
			return Differences(to, timeline.Differences(timeline.New(), n.Timeline))
		},
		"diff_nothing": func(to io.Writer) error { return Differences(to, nil) },
		"diff_json": func(to io.Writer) error {
			return DifferencesJSON(to, timeline.Differences(timeline.New(), n.Timeline), AsJSON)
		},
	} {
		golden(t, name, write)
		var got strings.Builder
		if err := write(&got); err != nil {
			t.Fatal(err)
		}
		for _, wrong := range []string{"hunter2", "0001-01-01", "\x1b"} {
			if strings.Contains(got.String(), wrong) {
				t.Errorf("%s shows %q", name, wrong)
			}
		}
		if write(broken{}) == nil {
			t.Errorf("%s: a broken pipe is no error", name)
		}
	}
}

// What is gone is listed by its name, or if all is wanted.
func TestGone(t *testing.T) {
	n := node(t)
	name, err := timeline.ParseName("shop/web")
	if err != nil {
		t.Fatal(err)
	}
	gone := Node{Timeline: timeline.New(), Now: start}
	if len(gone.pods()) != 0 || len(n.pods()) != 1 || len(n.containers()) != 1 {
		t.Errorf("%d pods, %d containers", len(n.pods()), len(n.containers()))
	}
	n.Names = []timeline.Name{name}
	if len(n.pods()) != 1 || len(n.containers()) != 1 {
		t.Errorf("by name: %d pods, %d containers", len(n.pods()), len(n.containers()))
	}
}

func TestParsePoint(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]timeline.Point{
		"1": {Sequence: 1}, "18446744073709551615": {Sequence: 18446744073709551615}, "10m": {Time: now.Add(-10 * time.Minute)},
		"03:02": {Time: time.Date(2026, 5, 4, 3, 2, 0, 0, time.UTC)}, "2026-05-04T03:02:01Z": {Time: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)},
	} {
		if got, err := ParsePoint(text, now, time.UTC); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "noon", "18446744073709551616", "1.5", "2026-13-01"} {
		if got, err := ParsePoint(text, now, time.UTC); err == nil || !strings.Contains(err.Error(), "neither a sequence") {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}
