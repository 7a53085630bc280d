package monitor

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
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
	link   *link
	held   *duplicates
	execs  *execs
	// late are the Creates whose callers have gone, and what watches attachments.
	late sync.WaitGroup
	// attachments numbers them.
	attachments atomic.Uint64
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
	c := &Client{config: config, held: newDuplicates(), execs: newExecs()}
	link, s, err := openLink(ctx, config, c.greet)
	if err != nil {
		c.held.releaseAll()
		return nil, err
	}
	c.link = link
	c.upgradeOther(ctx, s)
	return c, nil
}

// greet brings a monitor and the daemon to hold the same, before calls reach it.
func (c *Client) greet(ctx context.Context, s *session) error {
	if err := c.held.handTo(ctx, s); err != nil {
		return err
	}
	for _, failed := range c.execs.handTo(s) {
		c.config.Logger.Warn("hand an exec to the monitor", "exec", failed.id, "error", failed.err)
	}
	if err := s.do(ctx, &pb.Request{Call: &pb.Request_Settle{Settle: &pb.Settle{}}}); err != nil {
		return fmt.Errorf("settle what the monitor has: %w", err)
	}
	return c.held.borrow(ctx, s)
}

// Close ends the connection and leaves the monitor and the containers running.
func (c *Client) Close() error {
	c.link.close()
	c.late.Wait()
	c.held.releaseAll()
	return nil
}
