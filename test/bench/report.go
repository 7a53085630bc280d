package bench

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// report gathers how long calls took. Its methods may be called concurrently.
type report struct {
	mu    sync.Mutex
	order []string
	calls map[string][]time.Duration
}

// time makes a call and remembers how long it took.
func (r *report) time(name string, call func() error) error {
	begun := time.Now()
	err := call()
	took := time.Since(begun)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == nil {
		r.calls = map[string][]time.Duration{}
	}
	if _, known := r.calls[name]; !known {
		r.order = append(r.order, name)
	}
	r.calls[name] = append(r.calls[name], took)
	return nil
}

// medians is the middle of each call's times.
func (r *report) medians() map[string]time.Duration {
	middles := map[string]time.Duration{}
	for name, took := range r.calls {
		middles[name] = median(took)
	}
	return middles
}

// total is the time that callers waited, all together.
func (r *report) total() time.Duration {
	var sum time.Duration
	for took := range maps.Values(r.calls) {
		for _, d := range took {
			sum += d
		}
	}
	return sum
}

// median is the middle of the figures; the lower of two.
func median[F cmp.Ordered](figures []F) (middle F) {
	if len(figures) == 0 {
		return middle
	}
	sorted := slices.Sorted(slices.Values(figures))
	return sorted[(len(sorted)-1)/2]
}

// table sets the medians of several reports side by side, in milliseconds.
func table(columns []string, reports map[string]*report) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%-24s", "median, ms")
	for _, column := range columns {
		fmt.Fprintf(&out, "%14s", column)
	}
	out.WriteString("\n")
	for _, name := range reports[columns[0]].order {
		fmt.Fprintf(&out, "%-24s", name)
		for _, column := range columns {
			fmt.Fprintf(&out, "%14.2f", milliseconds(reports[column].medians()[name]))
		}
		out.WriteString("\n")
	}
	return out.String()
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
