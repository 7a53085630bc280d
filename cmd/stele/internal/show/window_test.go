package show

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, elsewhere)
	for text, want := range map[string]time.Time{
		"10m": now.Add(-10 * time.Minute), "1h30m": now.Add(-90 * time.Minute), "0s": now,
		"2026-05-04T03:02:01.5Z": time.Date(2026, 5, 4, 3, 2, 1, 5e8, time.UTC),
		"2026-05-03 03:02:01":    time.Date(2026, 5, 3, 3, 2, 1, 0, elsewhere),
		"2026-05-03 03:02":       time.Date(2026, 5, 3, 3, 2, 0, 0, elsewhere),
		"2026-05-03":             time.Date(2026, 5, 3, 0, 0, 0, 0, elsewhere),
		"03:02":                  time.Date(2026, 5, 4, 3, 2, 0, 0, elsewhere), "03:02:07": time.Date(2026, 5, 4, 3, 2, 7, 0, elsewhere),
	} {
		if got, err := ParseTime(text, now, elsewhere); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "noon", "-5m", "25:00", "2026-13-01", "12", "2026-05-04T03:02:01", "99999999999999h"} {
		if got, err := ParseTime(text, now, elsewhere); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestWindow(t *testing.T) {
	r := &adminv1.Record{Type: "sandbox.NetworkAttached.v1", Time: timestamppb.New(start)}
	for _, c := range []struct {
		w   Window
		has bool
	}{
		{Window{}, true},
		{Window{Since: start, Until: start}, true},
		{Window{Since: start.Add(1)}, false},
		{Window{Until: start.Add(-1)}, false},
		{Window{Types: []string{"SandboxReady", "networkattached"}}, true},
		{Window{Types: []string{"Network"}}, false},
	} {
		if got := c.w.Has(r); got != c.has {
			t.Errorf("%+v has it: %t", c.w, got)
		}
	}
}

// TestSelectByName: the names that people know select a pod with its containers, or one
// container, as `stele inspect` understands them.
func TestSelectByName(t *testing.T) {
	for name, want := range map[string]int{"default/shop": 4, "shop": 4, "default/shop/web": 2, "default/shop/side": 0, "other/shop": 0, "default/shop@1": 0} {
		about, got := Select(name), 0
		for _, r := range history(t) {
			if about.Has(r) {
				got++
			}
		}
		if got != want {
			t.Errorf("%s selects %d records, want %d", name, got, want)
		}
	}
}
