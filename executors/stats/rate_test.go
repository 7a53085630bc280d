package stats

import (
	"fmt"
	"math"
	"testing"
	"time"
)

func TestRates(t *testing.T) {
	begun := time.Unix(1000, 0)
	r := rates{last: map[string]sample{}}
	const cpu = uint64(time.Second) // a whole CPU for a second
	ask := func(after time.Duration, total uint64, since time.Time, want number) {
		t.Helper()
		if got := r.of("c", begun.Add(after), known(total), since); got != want {
			t.Errorf("after %v with %d: %v, want %v", after, total, got, want)
		}
	}
	// The first time it is over the container's life.
	ask(10*time.Second, 5*cpu, begun, known(cpu/2))
	// Who asks again at once gets the same, and does not shorten the window.
	ask(11*time.Second, 6*cpu, begun, known(cpu/2))
	ask(20*time.Second, 25*cpu, begun, known(2*cpu))
	// Idle.
	ask(30*time.Second, 25*cpu, begun, known(0))
	// A cgroup of the same name that was made anew.
	ask(40*time.Second, cpu, begun.Add(38*time.Second), known(cpu/2))
	// Nobody asked for long, and the container is old.
	ask(time.Hour, 100*cpu, begun, number{})
	ask(time.Hour+10*time.Second, 110*cpu, begun, known(cpu))
	// The clock was set back.
	ask(0, 120*cpu, begun, known(cpu))

	if got := r.of("pod", begun, known(7), time.Time{}); got != (number{}) {
		t.Errorf("one sample of a pod: %v", got)
	}
	if got := r.of("none", begun, number{}, begun); got != (number{}) || len(r.last) != 2 {
		t.Errorf("without a figure: %v", got)
	}
	if got := r.of("odd", begun.Add(1), known(math.MaxUint64), begun); !got.known || got.value > 1<<63 {
		t.Errorf("an impossible figure: %v", got)
	}
	if got := r.of("future", begun, known(1), begun.Add(time.Hour)); got != (number{}) {
		t.Errorf("a container of the future: %v", got)
	}
}

// What is gone is forgotten.
func TestRatesAreBounded(t *testing.T) {
	r := rates{last: map[string]sample{}}
	now := time.Unix(1000, 0)
	most := 0
	for i := range 10_000 {
		now = now.Add(time.Second)
		r.of(fmt.Sprint(i), now, known(1), now)
		most = max(most, len(r.last))
	}
	if limit := 2*int(maxWindow/time.Second) + 2; most > limit {
		t.Errorf("%d samples were kept of one cgroup a second, want %d", most, limit)
	}
}
