package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/stele-runtime/stele/actors/host"
)

// Ending is the daemon's orderly shutdown, in bounded time. The next daemon finishes what
// remains.
type Ending struct {
	Server *Server
	// Streams are those of exec, attach and port-forward.
	Streams interface{ End(ctx context.Context) }
	Actors  Actors
	// Within bounds the shutdown: calls get half of it, and effects the rest.
	Within time.Duration
	Logger *slog.Logger
}

// Run ends the streams and the calls, records the stop, and closes the actors, in this order: calls and
// the record need actors. It returns when all handlers have returned or the time is up.
func (e *Ending) Run() (err error) {
	all, cancel := context.WithTimeout(context.Background(), e.Within)
	defer cancel()
	calls, cancel := context.WithTimeout(all, e.Within/2)
	defer cancel()
	// Commands with a client are killed, so that no effect is under way for them.
	e.Streams.End(calls)
	e.Server.Drain(calls)
	if failed := e.Actors.Host(all, host.StopDaemon{At: time.Now().UTC()}); failed != nil {
		err = fmt.Errorf("record the daemon's stop: %w", failed)
	}
	e.Actors.Close(all)
	// Handlers that waited for an actor return now.
	if failed := e.Server.Await(all); failed != nil {
		e.Logger.Warn("a call has not ended in time", "error", failed)
	}
	return err
}
