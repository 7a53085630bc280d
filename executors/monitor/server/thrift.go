package server

import (
	"context"
	"errors"
	"time"

	"github.com/stele-runtime/stele/executors/lean"
)

// thriftAfter is how long no container was created when memory is given back, and thriftAgain how
// long after that once more: by then, the daemon has done with them, too.
const thriftAfter, thriftAgain = 5 * time.Second, time.Minute

// thrift gives back what the start and many creations at a time needed: a container that runs
// needs two KiB, and to create it a hundred. Most of the program runs only then, too.
type thrift chan struct{}

func newThrift() thrift { return make(thrift, 1) }

// created notes a creation, or the start. It does not wait.
func (t thrift) created() {
	select {
	case t <- struct{}{}:
	default: // noted already
	}
}

// run calls give after creations, twice once there were none for a while, until ctx is done.
func (t thrift) run(ctx context.Context, after, again time.Duration, give func()) {
	quiet, first := time.NewTimer(after), true
	quiet.Stop()
	defer quiet.Stop()
	for {
		select {
		case <-t:
			quiet.Reset(after)
			first = true
		case <-quiet.C:
			give()
			if first {
				quiet.Reset(again)
				first = false
			}
		case <-ctx.Done():
			return
		}
	}
}

// giver returns what a monitor does then.
func (s *Server) giver() func() {
	first := true
	return func() {
		var err error
		if first {
			first, err = false, lean.Recache()
		}
		if err = errors.Join(err, lean.LetGo(nil)); err != nil {
			s.logger.Warn("unused memory is kept", "error", err)
		}
	}
}
