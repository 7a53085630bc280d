package config

import (
	"errors"
	"time"

	"github.com/docker/go-units"

	"github.com/stele-runtime/stele/keeper"
)

// History says how much of the past the event log keeps. What has not ended always stays.
type History struct {
	// KeepFor is how long events are kept of what has ended.
	KeepFor time.Duration `toml:"keep_for"`
	// KeepPods is how many pods are kept that are older, the newest of those that have ended.
	KeepPods int `toml:"keep_pods"`
	// KeepSize bounds the event log's files, as in "1GiB".
	KeepSize string `toml:"keep_size"`
	// KeepSettledFor is how long events are kept that leave no trace, such as those of an exec
	// that has ended, of what has not.
	KeepSettledFor time.Duration `toml:"keep_settled_for"`
}

func defaultHistory() History {
	limits := keeper.DefaultLimits()
	return History{KeepFor: limits.Age, KeepPods: limits.Pods, KeepSize: "1GiB", KeepSettledFor: limits.Settled}
}

// Limits are what the keys say.
func (h *History) Limits() keeper.Limits {
	limits := keeper.DefaultLimits()
	limits.Age, limits.Pods, limits.Settled = h.KeepFor, h.KeepPods, h.KeepSettledFor
	limits.Bytes, _ = units.RAMInBytes(h.KeepSize) // checked
	return limits
}

// leastKept is the least time for which anything is kept. Less is mostly a number without a
// unit.
const leastKept = time.Second

func (h *History) check() error {
	var problems []error
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"history.keep_for", h.KeepFor}, {"history.keep_settled_for", h.KeepSettledFor}} {
		switch {
		case d.value <= 0:
			problems = append(problems, refuse(d.key, d.value, "keeps nothing"))
		case d.value < leastKept:
			problems = append(problems, refuse(d.key, d.value, "is too short; the least is %v", leastKept))
		}
	}
	if h.KeepSettledFor > h.KeepFor && h.KeepFor >= leastKept {
		problems = append(problems, refuse("history.keep_settled_for", h.KeepSettledFor, "is longer than keep_for, %v", h.KeepFor))
	}
	if h.KeepPods < 0 {
		problems = append(problems, refuse("history.keep_pods", h.KeepPods, "is negative"))
	}
	size, err := units.RAMInBytes(h.KeepSize)
	switch {
	case err != nil:
		problems = append(problems, refuse("history.keep_size", h.KeepSize, `is not a size, as in "1GiB"`))
	case size < keeper.MinBytes:
		problems = append(problems, refuse("history.keep_size", h.KeepSize, "is too small; the least is %s", units.BytesSize(keeper.MinBytes)))
	}
	return errors.Join(problems...)
}
