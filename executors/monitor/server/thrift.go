package server

import (
	"context"
	"runtime/debug"
	"time"
)

// thriftAfter is how long no container was created when memory is given back.
const thriftAfter = 5 * time.Second

// thrift gives back what many creations at a time needed: a container that runs needs two
// KiB, and to create it a hundred.
type thrift chan struct{}

func newThrift() thrift { return make(thrift, 1) }

// created notes a creation. It does not wait.
func (t thrift) created() {
	select {
	case t <- struct{}{}:
	default: // noted already
	}
}

// run calls give after creations, once there were none for a while, until ctx is done.
func (t thrift) run(ctx context.Context, after time.Duration, give func()) {
	quiet := time.NewTimer(after)
	quiet.Stop()
	defer quiet.Stop()
	for {
		select {
		case <-t:
			quiet.Reset(after)
		case <-quiet.C:
			give()
		case <-ctx.Done():
			return
		}
	}
}

// giveBack is what a monitor does then.
func giveBack() { debug.FreeOSMemory() }
