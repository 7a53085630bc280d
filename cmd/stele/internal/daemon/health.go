package daemon

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// networkCheckEvery bounds how old the answer to "is the network ready?" may
	// be. The kubelet asks every few seconds.
	networkCheckEvery  = 5 * time.Second
	networkCheckWithin = 10 * time.Second
)

var errNotChecked = errors.New("the pod network was not checked yet")

// Health is what the daemon last learned of the monitor and the network, so that Status
// never waits for either.
type Health struct {
	// recheck has an element if the network is to be checked at once.
	recheck chan struct{}

	mu      sync.Mutex
	monitor error
	network error
}

// NewHealth returns a Health of a monitor that is there and a network that was not
// checked.
func NewHealth() *Health {
	return &Health{recheck: make(chan struct{}, 1), network: errNotChecked}
}

// Monitor returns why there is no monitor at the moment; nil if there is.
func (h *Health) Monitor() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.monitor
}

// SetMonitor notes that the monitor is lost, or with nil that it is there.
func (h *Health) SetMonitor(lost error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.monitor = lost
}

// Network returns why the pod network was not ready when it was last checked.
func (h *Health) Network() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.network
}

// RecheckNetwork asks for a check of the network at once. It does not wait.
func (h *Health) RecheckNetwork() {
	select {
	case h.recheck <- struct{}{}:
	default: // a check is due already
	}
}

// FollowNetwork checks the network again and again until ctx is done.
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
