package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/journal"
	"github.com/stele-runtime/stele/executors/monitor/server/pump"
	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	"github.com/stele-runtime/stele/executors/monitor/server/redo"
	"github.com/stele-runtime/stele/executors/monitor/wire"
)

// ErrAlreadyRuns says that another monitor serves the directory.
var ErrAlreadyRuns = errors.New("another monitor serves this directory")

// Config is what a Server needs.
type Config struct {
	// Dir holds the socket, the lock and the journal. It is made, mode 0700, if
	// it is missing, and should be on a tmpfs.
	Dir string
	// Build names the monitor's version.
	Build  string
	Logger *slog.Logger
	// Args are the arguments that a program which replaces this one is to get.
	Args []string
	// Handover is the descriptor of what the program before this one has left; 0
	// for a start from nothing.
	Handover int
}

// Server is the one monitor of a directory.
type Server struct {
	config   Config
	logger   *slog.Logger
	instance string
	pid      int32
	bootID   string
	lock     *os.File
	listener *wire.Listener
	journal  *journal.Journal
	reaper   *reaper.Reaper
	pump     *pump.Pump
	redo     *redo.File
	oomScore oomScore
	// consoles numbers the console sockets.
	consoles atomic.Uint32
	// starts is entered by those who start a container or exec, ends by those who
	// know how one ended and have not passed it on yet.
	starts, ends *gate
	losses       *losses
	// upgrading is held while the program is being replaced.
	upgrading sync.Mutex
	// settled makes sure that what is left of output is settled once.
	settled sync.Once
	// left are the descriptors that the program before this one has left.
	left map[string]belongings

	// quit is closed, once, by Shutdown.
	quit     chan struct{}
	quitOnce sync.Once

	mu         sync.Mutex
	containers map[string]*container
	// execs are those that somebody waits for, orphans those that the journal
	// names and that nobody has adopted yet, both by their ids.
	execs   map[string]*execution
	orphans map[string]*execProcess
}

// Open takes the directory and takes up what the journal names, and listens. It
// returns ErrAlreadyRuns when there is a monitor.
func Open(config Config) (*Server, error) {
	s := &Server{
		config:     config,
		logger:     config.Logger,
		instance:   rand.Text(),
		pid:        int32(os.Getpid()),
		quit:       make(chan struct{}),
		containers: map[string]*container{},
		execs:      map[string]*execution{},
		orphans:    map[string]*execProcess{},
		starts:     newGate(),
		ends:       newGate(),
		losses:     newLosses(),
	}
	if err := s.take(); err != nil {
		return nil, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read the boot id: %w", err)
	}
	s.bootID = strings.TrimSpace(string(boot))
	if s.journal, err = journal.Open(filepath.Join(config.Dir, "journal")); err != nil {
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
	// Logs are made with mode 0640 whatever the daemon's mask was.
	unix.Umask(0o022)
	if config.Handover > 0 {
		return s, nil
	}
	s.oomScore = lowerOOMScore(s.logger)
	if s.listener, err = wire.Listen(s.socket()); err != nil {
		return nil, err
	}
	return s, nil
}

// openPump makes the pump, which begins with what one before it has left.
func (s *Server) openPump() (err error) {
	var damage string
	if s.redo, damage, err = redo.Open(filepath.Join(s.config.Dir, "redo")); err != nil {
		return err
	}
	if damage != "" {
		s.logger.Error("output that was read and not written is lost", "damage", damage)
	}
	s.pump, err = pump.New(s.logger, s.redo)
	return err
}

// take makes this process the one monitor of the directory.
func (s *Server) take() (err error) {
	if s.config.Handover > 0 {
		s.left, err = s.takeOver(s.config.Handover)
		return err
	}
	return s.takeDir()
}

// Run serves until Shutdown is asked for or ctx ends.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var parts sync.WaitGroup
	failed := make(chan error, 2)
	// After an upgrade there are children whose statuses must not be taken before
	// they are followed.
	s.reaper.Begin()
	parts.Go(func() { s.reaper.Run(ctx) })
	parts.Go(func() {
		if err := s.pump.Run(); err != nil {
			failed <- err
		}
	})
	s.resume(s.left)
	s.left = nil
	s.resumeExecs()
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
	s.listener.Close()
	s.pump.Stop()
	parts.Wait()
	return errors.Join(err, s.redo.Close(), s.journal.Close(), s.lock.Close())
}

// accept takes connections until ctx ends and the listener is closed.
func (s *Server) accept(ctx context.Context, parts *sync.WaitGroup) error {
	for ctx.Err() == nil {
		conn, err := s.listener.Accept()
		var foreign *wire.ForeignPeerError
		switch {
		case err == nil:
			parts.Go(func() { s.serve(ctx, conn) })
		case ctx.Err() != nil:
			return nil // closed by Run
		case errors.As(err, &foreign):
			s.logger.Warn("hung up on a stranger", "pid", foreign.PID, "uid", foreign.UID)
		default:
			// Most likely no descriptor is free; containers go on meanwhile.
			s.logger.Error("accept a connection", "error", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
	return nil
}
