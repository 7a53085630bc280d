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
	// deathWait is how long after the end of a connection the monitor's process
	// may take to end, for the two to be one event.
	deathWait = 100 * time.Millisecond
	// retryMin and retryMax bound the pause between attempts to have a monitor.
	retryMin = 10 * time.Millisecond
	retryMax = time.Second
)

// link keeps a connection to the monitor. It finds or starts a monitor, and another
// when that one is lost.
type link struct {
	config   Config
	launcher launcher
	// greet is called with each session before calls can use it.
	greet func(context.Context, *session) error
	// ctx ends with close, and when there won't be a monitor any more.
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	mu sync.Mutex
	// session is nil while there is none; arrived is closed when there is.
	session *session
	arrived chan struct{}
	// leaving says that the monitor was asked to end, upgrading that it was asked
	// to replace its program.
	leaving, upgrading bool
	// instance is that of the last session.
	instance string
	// lastExit is the highest number that is known here.
	lastExit uint64
}

// openLink meets a monitor or starts one, until ctx ends, and returns the first
// session too.
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

// hello is what the client opens connections with.
func (l *link) hello() *pb.Hello {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &pb.Hello{Build: l.config.Build, LastSeq: l.lastExit}
}

// sawExit notes a number that was given.
func (l *link) sawExit(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastExit = max(l.lastExit, seq)
}

// connect meets or starts a monitor and shares descriptors with it.
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

// part ends a session whose connection or process has ended, or both, and
// reports the latter.
func (l *link) part(s *session, p *process) {
	defer p.close()
	if l.ctx.Err() == nil {
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
		if !l.isLeaving() && l.config.OnLost != nil {
			l.config.OnLost(p.ending)
		}
	default:
		if l.ctx.Err() == nil && !l.isLeaving() && !l.isUpgrading() {
			l.config.Logger.Warn("lost the connection to the monitor", "pid", p.pid, "error", s.err)
		}
	}
}

// reconnect tries until there is a session, or returns nil when there won't be.
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

// arrive lets calls use a session.
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

// current returns the session, and waits for one if need be.
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

// retry calls f with a session, and again with the next one if that is lost
// meanwhile. It is for what can be done twice.
func (l *link) retry(ctx context.Context, f func(*session) error) error {
	for {
		s, err := l.current(ctx)
		if err != nil {
			return err
		}
		if err = f(s); !errors.Is(err, ErrLost) {
			return err
		}
		// The session may still be the current one for a moment.
		l.depart(s)
	}
}

func (l *link) setLeaving(leaving bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaving = leaving
}

// wasUpgraded waits for the session after one that was lost, and reports whether
// that was because the monitor's program was replaced: then no Create was cut in
// two, and no exec that was not answered was begun.
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

// meetInstance notes the instance of a session and returns that of the one before.
func (l *link) meetInstance(instance string) (before string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, l.instance = l.instance, instance
	return before
}
