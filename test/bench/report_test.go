package bench

import (
	"errors"
	"math"
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

func TestComparison(t *testing.T) {
	c := &comparison{title: "both"}
	c.add("start, ms", "1", 12.34, 24.68)
	c.add("start, ms", "8", 5, 0)
	c.add("removal, ms", "1", 150, 300)
	c.add("removal, ms", "8", 160, math.NaN())
	if got := c.ratio("start, ms", "1"); got != 0.5 {
		t.Errorf("the ratio is %v, want 0.5", got)
	}
	// Nobody is compared with what was not measured.
	for _, row := range c.rows {
		if got := c.ratio(row, "8"); got != 0 {
			t.Errorf("%s: the ratio to nothing is %v, want 0", row, got)
		}
	}
	want := `both
                           | ratio            | stele            | containerd
                           |       1        8 |       1        8 |       1        8
start, ms                  |    0.50        - |    12.3     5.00 |    24.7        0
removal, ms                |    0.50        - |     150      160 |     300        -
`
	if got := c.String(); got != want {
		t.Errorf("the table is\n%s\nwant\n%s", got, want)
	}
}

func TestApart(t *testing.T) {
	at := time.Unix(1, 0)
	all := []Execution{
		{Name: "tool", PID: 12, Parent: 10, Began: at.Add(2), Took: 3, CPU: 2, Own: 1},
		{Name: "bridge", CNI: "ADD", PID: 10, Parent: 1, Began: at, Took: 20, CPU: 15, Own: 1},
		// Later, another process has the same id.
		{Name: "tool", PID: 13, Parent: 10, Began: at.Add(100), Took: 5, CPU: 4, Own: 1},
	}
	got := apart(all)
	for i, want := range []Execution{{Took: 3, CPU: 2, By: "bridge ADD"}, {Took: 16, CPU: 12}, {Took: 5, CPU: 4}} {
		if got[i].Took != want.Took || got[i].CPU != want.CPU || got[i].By != want.By {
			t.Errorf("execution %d is %+v, want %+v", i, got[i], want)
		}
	}
}

func TestProgram(t *testing.T) {
	for _, c := range []struct {
		e    Execution
		want string
	}{
		{Execution{Name: "runc", Args: []string{"--root", "/run/x", "--log", "log", "create", "--bundle", "start"}}, "runc create"},
		{Execution{Name: "bridge", CNI: "DEL"}, "bridge DEL"},
		{Execution{Name: "iptables", Args: []string{"-t", "nat"}, CNI: "DEL"}, "iptables"},
		{Execution{Name: "iptables", Args: []string{"-t", "nat"}, CNI: "DEL", By: "portmap DEL"}, "iptables, by portmap DEL"},
	} {
		if got := c.e.Program(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
