package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/proc"
	"github.com/stele-runtime/stele/executors/monitor/server/cgroup"
	"github.com/stele-runtime/stele/executors/monitor/server/journal"
	"github.com/stele-runtime/stele/executors/monitor/server/pump"
	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	"github.com/stele-runtime/stele/executors/monitor/server/redo"
	"github.com/stele-runtime/stele/executors/monitor/wire"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// ErrAlreadyRuns: another monitor serves the directory.
var ErrAlreadyRuns = errors.New("another monitor serves this directory")

// Config is what a Server needs.
type Config struct {
	// Dir holds the socket, the lock, the journal and the redo file. It is created,
	// mode 0700, if it is missing, and should be on a tmpfs.
	Dir string
	// Build names the monitor's version.
	Build  string
	Logger *slog.Logger
	// Args are the arguments for a program that replaces this one.
	Args []string
	// Handover is the descriptor of the previous program's handover; 0 for a fresh
	// start.
	Handover int
}

// Server is the one monitor of a directory.
type Server struct {
	config   Config
	logger   *slog.Logger
	instance string
	pid      int32
	bootID   string

	home       *home
	journal    *journal.Journal
	reaper     *reaper.Reaper
	redo       *redo.File
	pump       *pump.Pump
	losses     *news[*pb.Loss]
	notifiers  *notifiers
	containers *containers
	creator    *creator
	successor  *successor
	execs      *execs
	upgrader   *upgrader
	// left are the descriptors from the previous program.
	left map[string]belongings

	// quit is closed, once, by Shutdown.
	quit     chan struct{}
	quitOnce sync.Once
}

// Open locks the directory, reads the journal, and listens. It returns
// ErrAlreadyRuns if there is a monitor.
func Open(config Config) (*Server, error) {
	s := &Server{
		config:   config,
		logger:   config.Logger,
		instance: rand.Text(),
		pid:      int32(os.Getpid()),
		quit:     make(chan struct{}),
		losses:   newNews[*pb.Loss](),
	}
	before, err := take(config)
	if err != nil {
		return nil, err
	}
	s.home, s.left = before.home, before.containers
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read the boot id: %w", err)
	}
	s.bootID = strings.TrimSpace(string(boot))
	if s.journal, err = journal.Open(s.home.path("journal")); err != nil {
		return nil, err
	}
	if damage := s.journal.Damage(); damage != "" {
		s.logger.Error("the journal was damaged", "damage", damage)
	}
	if s.reaper, err = reaper.New(); err != nil {
		return nil, err
	}
	if err := s.openPump(); err != nil {
		return nil, err
	}
	// Logs have mode 0640 whatever the daemon's umask was.
	unix.Umask(0o022)
	if config.Handover <= 0 {
		before.oomScore = lowerOOMScore(s.logger)
		if err := s.home.listen(); err != nil {
			return nil, err
		}
	}
	s.join(before.oomScore)
	return s, nil
}

// take makes this process the one monitor of the directory, with no descriptors but its
// own.
func take(config Config) (*inheritance, error) {
	if config.Handover > 0 {
		return takeOver(config.Handover, config.Dir)
	}
	if err := proc.CloseInherited(); err != nil {
		return nil, err
	}
	home, err := openHome(config.Dir)
	return &inheritance{home: home}, err
}

// openPump makes the pump, which begins with what the previous one left.
func (s *Server) openPump() (err error) {
	var damage string
	if s.redo, damage, err = redo.Open(s.home.path("redo")); err != nil {
		return err
	}
	if damage != "" {
		s.logger.Error("output that was read and not written is lost", "damage", damage)
	}
	s.pump, err = pump.New(s.logger, s.redo)
	return err
}

// join connects the parts.
func (s *Server) join(score oomScore) {
	starts, ends := newGate(), newGate()
	runtimes := &runtimes{reaper: s.reaper, oomScore: score}
	follower := &follower{pump: s.pump}
	outputs := &outputs{pump: s.pump, losses: s.losses, logger: s.logger}
	exits := &exits{journal: s.journal, reaper: s.reaper, follower: follower, outputs: outputs, ooms: cgroup.NewLedger(), ends: ends, logger: s.logger}
	s.notifiers = newNotifiers(s.journal, s.logger)
	s.containers = newContainers(s.journal, s.losses, s.notifiers.blocked)
	s.creator = &creator{
		home: s.home, journal: s.journal, runtimes: runtimes, follower: follower, outputs: outputs, exits: exits,
		containers: s.containers, notifiers: s.notifiers, starts: starts, thrift: newThrift(), logger: s.logger,
	}
	s.successor = &successor{
		journal: s.journal, containers: s.containers, notifiers: s.notifiers, outputs: outputs, exits: exits, logger: s.logger,
	}
	s.execs = &execs{
		home: s.home, journal: s.journal, runtimes: runtimes, follower: follower, containers: s.containers,
		starts: starts, ends: ends, logger: s.logger,
		awaited: map[string]*execution{}, orphans: map[string]*execProcess{},
	}
	s.upgrader = &upgrader{
		args: s.config.Args, home: s.home, journal: s.journal, reaper: s.reaper, pump: s.pump, runtimes: runtimes,
		containers: s.containers, notifiers: s.notifiers, starts: starts, ends: ends, logger: s.logger,
	}
}

// Run serves until a Shutdown or until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var parts sync.WaitGroup
	failed := make(chan error, 2)
	// After an upgrade there are children that must not be reaped before they are
	// followed.
	s.reaper.Begin()
	parts.Go(func() { s.reaper.Run(ctx) })
	s.creator.thrift.created()
	parts.Go(func() { s.creator.thrift.run(ctx, thriftAfter, thriftAgain, s.giver()) })
	parts.Go(func() {
		if err := s.pump.Run(); err != nil {
			failed <- err
		}
	})
	s.successor.resume(s.left)
	s.left = nil
	s.execs.resume()
	s.reaper.End()
	parts.Go(func() {
		if err := s.accept(ctx, &parts); err != nil {
			failed <- err
		}
	})

	var err error
	select {
	case <-s.quit:
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	s.home.listener.Close()
	s.pump.Stop()
	parts.Wait()
	s.notifiers.closeAll()
	return errors.Join(err, s.redo.Close(), s.journal.Close(), s.home.lock.Close())
}

// accept takes connections until ctx ends and the listener is closed.
func (s *Server) accept(ctx context.Context, parts *sync.WaitGroup) error {
	for ctx.Err() == nil {
		conn, err := s.home.listener.Accept()
		var foreign *wire.ForeignPeerError
		switch {
		case err == nil:
			parts.Go(func() { s.serve(ctx, conn) })
		case ctx.Err() != nil:
			return nil // closed by Run
		case errors.As(err, &foreign):
			s.logger.Warn("refused the connection of a foreign user", "pid", foreign.PID, "uid", foreign.UID)
		default:
			// Most likely no descriptor is free; containers continue meanwhile.
			s.logger.Error("accept a connection", "error", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
	return nil
}
