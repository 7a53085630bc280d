package daemon

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Signals catches signals that end a process by default, but that operators and scripts
// send to make a daemon reload or dump something.
type Signals struct{ caught, pipe chan os.Signal }

// CatchSignals starts to catch. Child processes have the defaults.
func CatchSignals() *Signals {
	s := &Signals{caught: make(chan os.Signal, 8), pipe: make(chan os.Signal, 1)}
	signal.Notify(s.caught, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	// The log's reader may end. Logging that would raise the next SIGPIPE.
	signal.Notify(s.pipe, syscall.SIGPIPE)
	return s
}

// Stop restores the defaults.
func (s *Signals) Stop() {
	signal.Stop(s.caught)
	signal.Stop(s.pipe)
}

// Log logs caught signals until ctx is done.
func (s *Signals) Log(ctx context.Context, logger *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case caught := <-s.caught:
			logger.Warn("signal ignored: the daemon reloads nothing; SIGTERM ends it", "signal", caught.String())
		}
	}
}
