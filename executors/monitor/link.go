package monitor

import (
	"context"
	"errors"
	"fmt"
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

func (c *Client) setLeaving(leaving bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = leaving
}

// wasUpgraded waits for the session after one that was lost, and reports whether
// that was because the monitor's program was replaced: then no Create was cut in
// two, and no exec that was not answered was begun.
func (c *Client) wasUpgraded(ctx context.Context, lost *session) bool {
	c.depart(lost)
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	next, err := c.current(ctx)
	return err == nil && next.welcome.Pid == lost.welcome.Pid && next.welcome.Instance != lost.welcome.Instance
}

func (c *Client) setUpgrading(upgrading bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.upgrading = upgrading
}

func (c *Client) isUpgrading() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.upgrading
}

// meetInstance notes the instance of a session and returns that of the one before.
func (c *Client) meetInstance(instance string) (before string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.instance = c.instance, instance
	return before
}
