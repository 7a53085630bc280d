package bench

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		durations []time.Duration
		want      time.Duration
	}{
		{nil, 0}, {[]time.Duration{7}, 7}, {[]time.Duration{9, 1}, 1}, {[]time.Duration{30, 10, 20}, 20}, {[]time.Duration{4, 1, 3, 2}, 2},
	} {
		if got := median(c.durations); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.durations, got, c.want)
		}
	}
}

func TestReport(t *testing.T) {
	r := &report{}
	for range 3 {
		if err := r.time("Call", func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	// What failed is no measurement.
	cause := errors.New("refused")
	if err := r.time("Call", func() error { return cause }); !errors.Is(err, cause) {
		t.Errorf("got %v, want the cause", err)
	}
	if n := len(r.calls["Call"]); n != 3 {
		t.Errorf("%d measurements, want 3", n)
	}
	r.calls["Call"] = []time.Duration{time.Millisecond, 2 * time.Millisecond, 6 * time.Millisecond}
	if got := r.total(); got != 9*time.Millisecond {
		t.Errorf("in all %s, want 9ms", got)
	}
	if got := table([]string{"one"}, map[string]*report{"one": r}); !strings.Contains(got, "Call") || !strings.Contains(got, "2.00") {
		t.Errorf("the table is\n%s", got)
	}
}
