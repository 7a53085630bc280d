package daemon

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Signals are caught ones that would end the process by default and are not meant to:
// operators and scripts send them to daemons that reload or dump something.
type Signals struct{ caught, pipe chan os.Signal }

// CatchSignals begins to catch. Programs that the daemon starts have the default again.
func CatchSignals() *Signals {
	s := &Signals{caught: make(chan os.Signal, 8), pipe: make(chan os.Signal, 1)}
	signal.Notify(s.caught, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	// Whoever read the log may end. A word about it would be the next SIGPIPE.
	signal.Notify(s.pipe, syscall.SIGPIPE)
	return s
}

// Stop gives the signals back.
func (s *Signals) Stop() {
	signal.Stop(s.caught)
	signal.Stop(s.pipe)
}

// Log logs what is caught until ctx is done.
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
