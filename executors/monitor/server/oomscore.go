package server

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
)

// oomScore is the oom_score_adj that the monitor was started with, if it was changed;
// a pointer so that 0 is a value.
type oomScore struct{ before *int }

const oomScoreFile = "/proc/self/oom_score_adj"

// lowerOOMScore sets the lowest score that a process can have.
func lowerOOMScore(logger *slog.Logger) oomScore {
	data, err := os.ReadFile(oomScoreFile)
	if err != nil {
		logger.Debug("the OOM score can't be read", "error", err)
		return oomScore{}
	}
	before, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		logger.Debug("the OOM score can't be read", "error", err)
		return oomScore{}
	}
	const lowest = -1000
	if err := os.WriteFile(oomScoreFile, []byte(strconv.Itoa(lowest)), 0); err != nil {
		logger.Debug("the OOM score stays as it is", "score", before, "error", err)
		return oomScore{}
	}
	return oomScore{before: &before}
}

// restore gives a new child the original score, so that no container inherits the
// monitor's. It is in time: a runtime needs milliseconds before it forks, and sets the
// container's own score if its configuration has one.
func (o oomScore) restore(pid int) {
	if o.before == nil {
		return
	}
	// The child may be gone.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(*o.before)), 0)
}
