package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/stele-runtime/stele/actors/host"
)

// Ending is the orderly end of the daemon, in bounded time. What does not end in it is
// finished by the next daemon.
type Ending struct {
	Server *Server
	Actors Actors
	// Within bounds it all: calls get half of it, and effects the rest.
	Within time.Duration
	Logger *slog.Logger
}

// Run ends the calls, records the end, and then ends the actors: a call must not meet
// actors that are gone, and the record is their last. It returns when no handler runs
// any more, or when the time is over.
func (e *Ending) Run() (err error) {
	all, cancel := context.WithTimeout(context.Background(), e.Within)
	defer cancel()
	calls, cancel := context.WithTimeout(all, e.Within/2)
	defer cancel()
	e.Server.Drain(calls)
	if failed := e.Actors.Host(all, host.StopDaemon{At: time.Now().UTC()}); failed != nil {
		err = fmt.Errorf("record the daemon's stop: %w", failed)
	}
	e.Actors.Close(all)
	// With the actors, whatever a handler waited for has an answer.
	if failed := e.Server.Await(all); failed != nil {
		e.Logger.Warn("a call has not ended in time", "error", failed)
	}
	return err
}
