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
	// Build is the daemon's version. If Start meets a monitor of another version,
	// and Binary differs from it, Start upgrades the monitor to Binary. Empty: never.
	Build string
	// Cgroup is the cgroup that a monitor started here joins, an absolute path below
	// the hierarchies' root; empty: it stays in this process's. It must be out of the
	// pods' reach (CVE-2019-14891): a pod that exhausts the memory there could get the
	// monitor killed.
	Cgroup string
	// LastExit is the number of the last exit in the event log; 0 for none. The
	// monitor does not reuse numbers up to it, even if it has lost its journal.
	LastExit uint64
	Logger   *slog.Logger
	// OnLost is called when the monitor's process has ended, before the next one is
	// started. It may be nil.
	OnLost func(reason error)
	// OnStarted is called when a monitor that this Client started answers, during
	// Start or later, and when the monitor was upgraded, which keeps its pid. It may
	// be nil.
	OnStarted func(pid int, version string)
}

// Client is the daemon's connection to the monitor. Its methods may be called at
// any time and by any number of goroutines.
type Client struct {
	config Config
	link   *link
	held   *duplicates
	execs  *execs
	// late are Creates whose callers have gone, and the goroutines of attachments.
	late sync.WaitGroup
	// attachments numbers them.
	attachments atomic.Uint64
}

// Start connects to the monitor of the state directory, or starts one. ctx bounds
// Start only.
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

// greet makes a monitor and the daemon hold the same, before calls reach the
// monitor.
func (c *Client) greet(ctx context.Context, s *session) error {
	if err := c.held.handTo(ctx, s); err != nil {
		return err
	}
	for _, failed := range c.execs.handTo(s) {
		c.config.Logger.Warn("hand an exec to the monitor", "exec", failed.id, "error", failed.err)
	}
	if err := s.do(ctx, &pb.Request{Call: &pb.Request_Settle{Settle: &pb.Settle{}}}); err != nil {
		return fmt.Errorf("settle with the monitor: %w", err)
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
