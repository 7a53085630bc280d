package backoff

import (
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	var s Schedule
	now := time.Unix(1000, 0)
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		at := s.Next("a", now)
		if got := at.Sub(now); got != want*time.Second {
			t.Errorf("after %d tries: %v, want %v", s["a"].Tries, got, want*time.Second)
		}
		s.Failed("a", at)
		if s["a"].At != at {
			t.Errorf("it is owed at %v, want %v", s["a"].At, at)
		}
	}
	for range 2 * Counted {
		s.Failed("c", now)
	}
	if r := s["c"]; r.Tries != Counted || s.Next("c", now).Sub(now) != 300*time.Second {
		t.Errorf("after many tries: %+v", r)
	}
	if got := s.Next("b", now).Sub(now); got != time.Second {
		t.Errorf("another one, for the first time: %v", got)
	}
	s.Now()
	if r := s["a"]; !r.At.IsZero() || r.Tries != 11 {
		t.Errorf("due at once: %+v", r)
	}
}
