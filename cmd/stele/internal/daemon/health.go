package daemon

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// networkCheckEvery bounds the age of the network's status. The kubelet asks every
	// few seconds.
	networkCheckEvery  = 5 * time.Second
	networkCheckWithin = 10 * time.Second
)

var errNotChecked = errors.New("the pod network has not been checked yet")

// Health is the last known state of the monitor and the network: Status never waits for
// either.
type Health struct {
	// recheck requests an immediate check of the network.
	recheck chan struct{}

	mu      sync.Mutex
	monitor error
	network error
}

// NewHealth returns a Health with a running monitor and an unchecked network.
func NewHealth() *Health {
	return &Health{recheck: make(chan struct{}, 1), network: errNotChecked}
}

// Monitor returns why there is no monitor, or nil.
func (h *Health) Monitor() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.monitor
}

// SetMonitor sets why the monitor was lost, or nil if it runs.
func (h *Health) SetMonitor(lost error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.monitor = lost
}

// Network returns why the pod network was not ready at the last check, or nil.
func (h *Health) Network() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.network
}

// RecheckNetwork requests an immediate check of the network. It does not wait.
func (h *Health) RecheckNetwork() {
	select {
	case h.recheck <- struct{}{}:
	default: // already requested
	}
}

// FollowNetwork checks the network periodically until ctx is done.
func (h *Health) FollowNetwork(ctx context.Context, check func(context.Context) error) {
	for {
		checking, cancel := context.WithTimeout(ctx, networkCheckWithin)
		err := check(checking)
		cancel()
		h.mu.Lock()
		h.network = err
		h.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-h.recheck:
		case <-time.After(networkCheckEvery):
		}
	}
}
