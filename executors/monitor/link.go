package monitor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	// deathWait is how long after the end of a connection the monitor's process may
	// take to end for the two to count as one event.
	deathWait = 100 * time.Millisecond
	// retryMin and retryMax bound the pause between attempts to reach a monitor.
	retryMin = 10 * time.Millisecond
	retryMax = time.Second
)

// link keeps a connection to a monitor: it finds or starts one, and the next when
// that one is lost.
type link struct {
	config   Config
	launcher launcher
	// greet is called with each session before calls can use it.
	greet func(context.Context, *session) error
	// ctx ends with close, or when the monitor was shut down.
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	mu sync.Mutex
	// session is nil while there is none; arrived is closed when there is.
	session *session
	arrived chan struct{}
	// leaving: the monitor was asked to end. upgrading: it was asked to replace its
	// program.
	leaving, upgrading bool
	// instance is the last session's.
	instance string
	// lastExit is the highest exit number seen.
	lastExit uint64
}

// openLink connects to a monitor or starts one, until ctx ends, and returns the
// first session too.
func openLink(ctx context.Context, config Config, greet func(context.Context, *session) error) (*link, *session, error) {
	l := &link{
		config:   config,
		launcher: launcher{binary: config.Binary, dir: filepath.Join(config.StateDir, "monitor"), cgroup: config.Cgroup},
		greet:    greet,
		done:     make(chan struct{}),
		arrived:  make(chan struct{}),
		lastExit: config.LastExit,
	}
	if socket := l.launcher.socket(); len(socket) > maxSocketPath {
		return nil, nil, fmt.Errorf("start the monitor's client: the socket's path %s is longer than %d bytes", socket, maxSocketPath)
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	s, p, err := l.connect(ctx)
	if err != nil {
		l.cancel()
		return nil, nil, err
	}
	l.arrive(s)
	go l.run(s, p)
	return l, s, nil
}

// close ends the connection, and leaves the monitor as it is.
func (l *link) close() {
	l.cancel()
	<-l.done
}

// hello opens a connection.
func (l *link) hello() *pb.Hello {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &pb.Hello{Build: l.config.Build, LastSeq: l.lastExit}
}

// sawExit notes an exit's number.
func (l *link) sawExit(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastExit = max(l.lastExit, seq)
}

// connect finds or starts a monitor and shares descriptors with it.
func (l *link) connect(ctx context.Context) (*session, *process, error) {
	s, p, err := l.launcher.meet(ctx, l.hello)
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
		l.config.Logger.Error("the monitor found its journal damaged", "damage", damage)
	}
	if err := l.greet(ctx, s); err != nil {
		s.conn.Close()
		<-s.lost
		p.close()
		return nil, nil, err
	}
	before := l.meetInstance(s.welcome.Instance)
	if (started || before != "" && before != s.welcome.Instance) && l.config.OnStarted != nil {
		l.config.OnStarted(int(s.welcome.Pid), s.welcome.Build)
	}
	return s, p, nil
}

// run keeps a connection until Close.
func (l *link) run(s *session, p *process) {
	defer close(l.done)
	for s != nil {
		select {
		case <-s.lost:
		case <-p.gone:
		case <-l.ctx.Done():
		}
		l.depart(s)
		l.part(s, p)
		s, p = l.reconnect()
	}
}

// part ends a session whose connection or process has ended, and reports the end of
// the process.
func (l *link) part(s *session, p *process) {
	defer p.close()
	if l.ctx.Err() == nil {
		// The monitor's last replies are still to be read, and the end of the
		// connection mostly means the end of the process.
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
		if !l.isLeaving() && l.config.OnLost != nil {
			l.config.OnLost(p.ending)
		}
	default:
		if l.ctx.Err() == nil && !l.isLeaving() && !l.isUpgrading() {
			l.config.Logger.Warn("lost the connection to the monitor", "pid", p.pid, "error", s.err)
		}
	}
}

// reconnect tries until there is a session; it returns nil after close or Shutdown.
func (l *link) reconnect() (*session, *process) {
	for pause := retryMin; l.ctx.Err() == nil && !l.isLeaving(); pause = min(2*pause, retryMax) {
		s, p, err := l.connect(l.ctx)
		if err == nil {
			l.arrive(s)
			return s, p
		}
		if l.ctx.Err() != nil {
			break
		}
		l.config.Logger.Error("there is no monitor", "error", err, "retry", pause)
		select {
		case <-time.After(pause):
		case <-l.ctx.Done():
		}
	}
	l.cancel()
	return nil, nil
}

// arrive gives calls a session.
func (l *link) arrive(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session = s
	close(l.arrived)
}

// depart makes calls wait for the next session.
func (l *link) depart(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == s {
		l.session = nil
		l.arrived = make(chan struct{})
	}
}

func (l *link) isLeaving() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leaving
}

// current returns the session, and waits for one if necessary.
func (l *link) current(ctx context.Context) (*session, error) {
	for {
		l.mu.Lock()
		s, arrived := l.session, l.arrived
		l.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a monitor: %w", ctx.Err())
		case <-l.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// retry calls f with a session, and again with the next if that one is lost
// meanwhile. f must be repeatable.
func (l *link) retry(ctx context.Context, f func(*session) error) error {
	for {
		s, err := l.current(ctx)
		if err != nil {
			return err
		}
		if err = f(s); !errors.Is(err, ErrLost) {
			return err
		}
		// The session may remain current for a moment.
		l.depart(s)
	}
}

func (l *link) setLeaving(leaving bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaving = leaving
}

// wasUpgraded waits for the session after a lost one, and reports whether it was lost
// to an upgrade: then no Create was interrupted, and no unanswered exec was begun.
func (l *link) wasUpgraded(ctx context.Context, lost *session) bool {
	l.depart(lost)
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	next, err := l.current(ctx)
	return err == nil && next.welcome.Pid == lost.welcome.Pid && next.welcome.Instance != lost.welcome.Instance
}

func (l *link) setUpgrading(upgrading bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.upgrading = upgrading
}

func (l *link) isUpgrading() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.upgrading
}

// meetInstance notes a session's instance and returns the previous one.
func (l *link) meetInstance(instance string) (before string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, l.instance = l.instance, instance
	return before
}
