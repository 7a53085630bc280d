package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	// deathWait is how long after the end of a connection the monitor's process
	// may take to end, for the two to be one event.
	deathWait = 100 * time.Millisecond
	// retryMin and retryMax bound the pause between attempts to have a monitor.
	retryMin = 10 * time.Millisecond
	retryMax = time.Second
	// maxSocketPath is how long the path of a Unix socket can be: sun_path in
	// unix(7) less the zero.
	maxSocketPath = 107
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

// hello is what the client opens connections with.
func (c *Client) hello() *pb.Hello {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &pb.Hello{Build: c.config.Build, LastSeq: c.lastExit}
}

// sawExit notes a number that was given.
func (c *Client) sawExit(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastExit = max(c.lastExit, seq)
}

// connect meets or starts a monitor and shares descriptors with it.
func (c *Client) connect(ctx context.Context) (*session, *process, error) {
	s, p, err := c.meet(ctx)
	if err != nil {
		return nil, nil, err
	}
	started := p != nil
	if !started {
		if p, err = watch(int(s.welcome.Pid), nil); err != nil {
			s.conn.Close()
			return nil, nil, err
		}
	}
	go s.run()
	if damage := s.welcome.JournalDamage; damage != "" {
		c.config.Logger.Error("the monitor found its journal damaged", "damage", damage)
	}
	if err := c.backUp(ctx, s); err != nil {
		s.conn.Close()
		<-s.lost
		p.close()
		return nil, nil, err
	}
	before := c.meetInstance(s.welcome.Instance)
	if (started || before != "" && before != s.welcome.Instance) && c.config.OnStarted != nil {
		c.config.OnStarted(int(s.welcome.Pid), s.welcome.Build)
	}
	return s, p, nil
}

// run keeps a connection until Close.
func (c *Client) run(s *session, p *process) {
	defer close(c.done)
	for s != nil {
		select {
		case <-s.lost:
		case <-p.gone:
		case <-c.ctx.Done():
		}
		c.depart(s)
		c.part(s, p)
		s, p = c.reconnect()
	}
}

// part ends a session whose connection or process has ended, or both, and
// reports the latter.
func (c *Client) part(s *session, p *process) {
	defer p.close()
	if c.ctx.Err() == nil {
		// What the monitor said before it ended is still to be read, and an end
		// of the connection is mostly that of the process.
		select {
		case <-p.gone:
		case <-time.After(deathWait):
		}
		select {
		case <-s.lost:
		case <-time.After(deathWait):
		}
	}
	s.conn.Close()
	<-s.lost
	select {
	case <-p.gone:
		if !c.isLeaving() && c.config.OnLost != nil {
			c.config.OnLost(p.ending)
		}
	default:
		if c.ctx.Err() == nil && !c.isLeaving() && !c.isUpgrading() {
			c.config.Logger.Warn("lost the connection to the monitor", "pid", p.pid, "error", s.err)
		}
	}
}

// reconnect tries until there is a session, or returns nil when there won't be.
func (c *Client) reconnect() (*session, *process) {
	for pause := retryMin; c.ctx.Err() == nil && !c.isLeaving(); pause = min(2*pause, retryMax) {
		s, p, err := c.connect(c.ctx)
		if err == nil {
			c.arrive(s)
			return s, p
		}
		if c.ctx.Err() != nil {
			break
		}
		c.config.Logger.Error("there is no monitor", "error", err, "retry", pause)
		select {
		case <-time.After(pause):
		case <-c.ctx.Done():
		}
	}
	c.cancel()
	return nil, nil
}

// arrive lets calls use a session.
func (c *Client) arrive(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = s
	close(c.arrived)
}

// depart makes calls wait for the next session.
func (c *Client) depart(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == s {
		c.session = nil
		c.arrived = make(chan struct{})
	}
}

func (c *Client) isLeaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving
}

// current returns the session, and waits for one if need be.
func (c *Client) current(ctx context.Context) (*session, error) {
	for {
		c.mu.Lock()
		s, arrived := c.session, c.arrived
		c.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a monitor: %w", ctx.Err())
		case <-c.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// retry calls f with a session, and again with the next one if that is lost
// meanwhile. It is for what can be done twice.
func (c *Client) retry(ctx context.Context, f func(*session) error) error {
	for {
		s, err := c.current(ctx)
		if err != nil {
			return err
		}
		if err = f(s); !errors.Is(err, ErrLost) {
			return err
		}
		// The session may still be the current one for a moment.
		c.depart(s)
	}
}
