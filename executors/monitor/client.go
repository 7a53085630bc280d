package monitor

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Config is what a Client needs.
type Config struct {
	// Binary is the absolute path of stele-monitor.
	Binary string
	// StateDir is the absolute path of the daemon's state directory; the
	// monitor's is `monitor` in it. It leaves room for `/monitor/monitor.sock`
	// in the 107 bytes that a socket's path may have.
	StateDir string
	// Build is the daemon's version. When Start meets a monitor of another one,
	// and Binary is not of that one, it has the monitor replaced by Binary. Empty:
	// never.
	Build string
	// Cgroup is where a monitor that is started here puts itself, an absolute path
	// below the hierarchies' root; empty: it stays in this process's. It must be
	// out of the pods' reach (CVE-2019-14891): who runs short of memory there can
	// have the monitor killed.
	Cgroup string
	// LastExit is the number of the last exit that is in the event log; 0 for
	// none. The monitor gives no number up to it again, even if it has lost its
	// journal.
	LastExit uint64
	Logger   *slog.Logger
	// OnLost is called when the monitor's process has ended, before another is
	// started. It may be nil.
	OnLost func(reason error)
	// OnStarted is called when this Client has started a monitor that answers,
	// from Start as well as later, and when the monitor's program was replaced,
	// which keeps its pid. It may be nil.
	OnStarted func(pid int, version string)
}

// Client is the daemon's connection to the monitor. Its methods may be called at
// any time and by any number of goroutines.
type Client struct {
	config Config
	// ctx ends with Close.
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	// late are the Creates whose callers have gone, and what watches attachments.
	late sync.WaitGroup
	// attachments numbers them.
	attachments atomic.Uint64

	mu sync.Mutex
	// session is nil while there is none; arrived is closed when there is.
	session *session
	arrived chan struct{}
	// leaving says that the monitor was asked to end, upgrading that it was asked
	// to replace its program.
	leaving, upgrading bool
	// instance is that of the last session.
	instance string
	held     map[string]held
	// execs are those that run.
	execs map[*Exec]struct{}
	// lastExit is the highest number that is known here.
	lastExit uint64
}

// Start meets the monitor that serves the state directory, or starts one. ctx
// bounds the start only.
func Start(ctx context.Context, config Config) (*Client, error) {
	if !filepath.IsAbs(config.StateDir) || !filepath.IsAbs(config.Binary) {
		return nil, fmt.Errorf("start the monitor's client: the state directory (%q) or the binary (%q) is not an absolute path", config.StateDir, config.Binary)
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	c := &Client{config: config, done: make(chan struct{}), arrived: make(chan struct{}), held: map[string]held{}, execs: map[*Exec]struct{}{}, lastExit: config.LastExit}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if len(c.socket()) > maxSocketPath {
		c.cancel()
		return nil, fmt.Errorf("start the monitor's client: the socket's path %s is longer than %d bytes", c.socket(), maxSocketPath)
	}
	s, p, err := c.connect(ctx)
	if err != nil {
		c.cancel()
		c.releaseAll()
		return nil, err
	}
	c.arrive(s)
	go c.run(s, p)
	c.upgradeOther(ctx, s)
	return c, nil
}

// Close ends the connection and leaves the monitor and the containers running.
func (c *Client) Close() error {
	c.cancel()
	<-c.done
	c.late.Wait()
	c.releaseAll()
	return nil
}
