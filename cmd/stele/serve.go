//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/node"
	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/cmd/stele/internal/admin"
	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/cmd/stele/internal/daemon"
	"github.com/stele-runtime/stele/cmd/stele/internal/history"
	"github.com/stele-runtime/stele/cri"
	"github.com/stele-runtime/stele/cri/streaming"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/executors"
	"github.com/stele-runtime/stele/executors/cni"
	"github.com/stele-runtime/stele/executors/handover"
	"github.com/stele-runtime/stele/executors/monitor/proc"
	"github.com/stele-runtime/stele/executors/spec/usermode"
	"github.com/stele-runtime/stele/executors/subids"
	"github.com/stele-runtime/stele/projections"
	"github.com/stele-runtime/stele/projections/names"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// stopWithin bounds the orderly end.
const stopWithin = 10 * time.Second

func serveCommand() *cobra.Command {
	var flags config.Flags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.Load(cmd.Flags())
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return serve(ctx, c)
		},
	}
	flags.Register(cmd.Flags())
	return cmd
}

// serve makes the process fit for a daemon, and runs it until ctx is done.
func serve(ctx context.Context, c config.Config) error {
	signals := daemon.CatchSignals()
	defer signals.Stop()
	if err := proc.CloseInherited(); err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: c.Level(), ReplaceAttr: redact.Attr}))
	if err := daemon.MakeDirs(c.Root, c.State); err != nil {
		return err
	}
	// The log is opened first and closed last: everything else appends to it.
	bookmark, err := daemon.OpenBookmark(c.State)
	if err != nil {
		return err
	}
	defer bookmark.Close()
	bootID, err := daemon.BootID()
	if err != nil {
		return err
	}
	opener := history.Opener{
		Root: c.Root, State: c.State, BootID: bootID, Runtimes: c.RuntimeRoots(), Default: c.Runtime.Default, OpenLog: daemon.OpenLog, Bookmark: bookmark, Logger: logger,
	}
	log, feed, err := opener.Open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err := log.Close(); err != nil {
			logger.Error("event log not closed", "error", err)
		}
	}()
	caught := daemon.NewBackground(logger)
	defer caught.End()
	caught.Go("signals", func(ctx context.Context) { signals.Log(ctx, logger) })
	return run(ctx, c, log, feed, logger)
}

// run opens the daemon's parts, boots, and serves until ctx is done. Each part needs those
// opened before it; they are closed in reverse order.
func run(ctx context.Context, c config.Config, log *boltlog.Log, feed *projections.Feed, logger *slog.Logger) error {
	garbage := daemon.NewGarbage() // not before: reading the log makes some
	following := daemon.NewBackground(logger)
	defer following.End()
	following.Go("projections", func(ctx context.Context) { _ = feed.Run(ctx) }) // Health says why it stopped
	index := names.New(log, logger)
	following.Go("names", index.Run)

	// The socket is made early, before anything else creates files: it changes the
	// process's umask for a moment. It is served last.
	listener, err := daemon.Listen(c.Socket())
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // after an orderly end it is closed already

	health, reports := daemon.NewHealth(), daemon.NewReports()
	opening := daemon.Opening{Config: c, Version: version, Health: health, Reports: reports, Garbage: garbage, Logger: logger}
	drivers, err := opening.Open(ctx)
	if err != nil {
		return err
	}
	defer drivers.Close()
	n := &parts{config: c, log: log, feed: feed, names: index, drivers: drivers, health: health, logger: logger}
	n.backups = &history.Backups{Root: c.Root, Config: c.Backup, Log: log, Logger: logger}
	if err := n.makeActors(); err != nil {
		return err
	}
	defer n.closeActors()
	boot, err := n.boot(ctx)
	if err != nil {
		return err
	}
	metrics, err := n.listen()
	if err != nil {
		return err
	}
	background := daemon.NewBackground(logger)
	defer background.End()
	n.follow(background, reports, boot)
	blocked := &daemon.Blocked{Monitor: drivers.Monitor, Actors: n.actors, Views: feed.Live, Logger: logger}
	background.Go("forbidden system calls", blocked.Follow)
	retention := &daemon.History{Log: log, Feed: feed, Limits: c.History.Limits(), BootID: boot.Start.BootID, Logger: logger}
	n.retention = retention
	background.Go("history", retention.Keep)
	scraped := daemon.MetricsServer{Listener: metrics, Registry: daemon.Metrics(log, feed.Live, n.executor.Pulls, blocked, retention, n.backups), Logger: logger}
	background.Go("metrics", scraped.Serve)

	server := daemon.NewServer(listener, logger)
	n.register(server)
	logger.Info("serving", "address", listener.Addr().String(), "version", version, "pid", os.Getpid())
	lean := daemon.Lean{Garbage: garbage, Pack: n.pack, Log: log.Mapped, Logger: logger}
	background.Go("memory", lean.Follow)
	err = server.Run(ctx)
	ending := daemon.Ending{Server: server, Streams: n.streams, Actors: n.actors, Within: stopWithin, Logger: logger}
	err = errors.Join(err, ending.Run())
	logger.Info("stopped", "pid", os.Getpid())
	return err
}

// parts are the daemon's parts.
type parts struct {
	config    config.Config
	log       *boltlog.Log
	feed      *projections.Feed
	names     *names.Index
	drivers   *daemon.Drivers
	streams   *streaming.Server
	health    *daemon.Health
	backups   *history.Backups
	retention *daemon.History
	logger    *slog.Logger

	credentials *handover.Credentials
	execs       *handover.Execs
	executor    *executors.Executor
	actors      *node.Node
}

// makeActors makes the executor and the actors.
func (p *parts) makeActors() (err error) {
	p.credentials, p.execs = handover.NewCredentials(), handover.NewExecs()
	p.executor = executors.New(executors.Config{
		Drivers: p.drivers.Drivers, RootDir: p.config.Root, StateDir: p.config.State,
		MonitorBinary: p.config.Monitor, MaxLogSize: p.config.Runtime.MaxLogSize, Hooks: p.config.Runtime.HooksDir, CDI: p.config.Runtime.CDISpecDirs,
		DisableHostPorts: p.config.Network.DisableHostPortMapping,
		Credentials:      p.credentials, Execs: p.execs, Pulls: handover.NewPulls(), Logger: p.logger,
	})
	p.actors, err = node.New(node.Config{Log: p.log, Executor: p.executor, Await: p.feed.Await, Recall: p.feed, Logger: p.logger})
	p.executor.ImageNews = func(ctx context.Context, ref string, c image.Command) error {
		_, err := p.actors.Image(ctx, ref, c, nil)
		return err
	}
	return err
}

// pack has what lives long share few pieces of memory.
func (p *parts) pack() {
	p.feed.Pack()
	p.actors.Pack()
}

// boot starts the actors from their past.
func (p *parts) boot(ctx context.Context) (*daemon.Boot, error) {
	bootID, err := daemon.BootID()
	if err != nil {
		return nil, err
	}
	boot := &daemon.Boot{
		Actors: p.actors, Views: p.feed.Live, Monitor: p.drivers.Monitor, Executor: p.executor, Network: p.drivers.Network,
		Start:  host.StartDaemon{BootID: bootID, Version: version, PID: os.Getpid(), At: time.Now().UTC()},
		Logger: p.logger,
	}
	return boot, boot.Run(ctx)
}

// listen opens the addresses beside the socket.
func (p *parts) listen() (metrics net.Listener, err error) {
	if p.streams, err = daemon.ListenStreams(p.config.Streaming, p.logger); err != nil {
		return nil, err
	}
	return daemon.ListenMetrics(p.config.Metrics.Listen)
}

// closeActors is for an end before the daemon serves: effects under way must not use
// closed drivers. After an orderly end it does nothing.
func (p *parts) closeActors() {
	ending, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	p.actors.Close(ending)
}

// follow starts the background tasks.
func (p *parts) follow(background *daemon.Background, reports *daemon.Reports, boot *daemon.Boot) {
	background.Go("streams", p.streams.Serve)
	background.Go("lost processes", boot.FollowLost)
	keeper := history.Keeper{
		Dir: history.KeptDir(p.config.State), BootID: boot.Start.BootID, Living: p.feed.Live, Changes: p.feed.Changes, Logger: p.logger,
	}
	background.Go("kept states", keeper.Follow)
	background.Go("backups", p.backups.Follow)
	exits := daemon.Exits{Monitor: p.drivers.Monitor, Actors: p.actors, Logger: p.logger}
	background.Go("exits", exits.Follow)
	background.Go("losses of output", exits.FollowLosses)
	if p.drivers.NRI != nil {
		plugins := daemon.Plugins{
			Driver: p.drivers.NRI, Views: p.feed.Live, Executor: p.executor, Actors: p.actors,
			Changes: p.feed.Changes, Await: p.feed.Await, Last: p.log.Last, Logger: p.logger,
		}
		background.Go("NRI plug-ins", plugins.Run)
	}
	background.Go("reports", func(ctx context.Context) { reports.Record(ctx, p.actors, p.logger) })
	// Before a call can report other ranges.
	p.addresses().Refill()
	background.Go("network", func(ctx context.Context) { p.health.FollowNetwork(ctx, p.drivers.Network.Status) })
}

// addresses configures the network, if that is this node's business.
func (p *parts) addresses() *daemon.PodAddresses {
	return &daemon.PodAddresses{
		Actors: p.actors, Views: p.feed.Live, Logger: p.logger,
		Template: cni.Template{Path: p.config.Network.ConfTemplate, ConfDir: p.config.Network.ConfDir},
	}
}

// userModes gives user namespaces to pods that ask for one by annotation.
func (p *parts) userModes() *daemon.UserModes {
	c := p.config.Runtime
	allowed := map[string][]string{}
	for name, h := range c.Handlers {
		allowed[name] = h.AllowedAnnotations
	}
	return &daemon.UserModes{
		Allowed: allowed, Rules: usermode.Rules{MinUID: c.MinimumMappableUID, MinGID: c.MinimumMappableGID},
		IDs: subids.OfNode("containers"), Sandboxes: p.feed.Live.Sandboxes,
	}
}

// register adds the services: the CRI's two, and the tools'.
func (p *parts) register(server *daemon.Server) {
	info := daemon.Info{Config: p.config, Version: version, Views: p.feed.Live, Log: p.log, Network: p.health.Network, Backups: p.backups.Info}
	byDefault := p.config.Runtime.Default
	service := cri.New(cri.Parts{
		Actors: p.actors, Views: p.feed.Live, PodEvents: p.feed.PodEvents, Images: daemon.Images{Drivers: &p.drivers.Drivers},
		Stats: daemon.NewStats(daemon.StatsParts{
			Cgroups: p.drivers.Cgroups, Pin: p.executor.NetworkPin, Views: p.feed.Live, Usage: p.drivers.Store.Usage,
			Metrics: p.config.Stats.IncludedPodMetrics,
		}),
		Credentials: p.credentials, Execs: p.execs, Streams: p.streams, Processes: p.executor, Specs: p.executor, Places: p.executor, Plugins: p.executor, Validator: daemon.Validator{Cgroups: p.drivers.Cgroups},
		UserModes: &daemon.Levels{UserModes: p.userModes(), Host: p.drivers.Host, Sandboxes: p.feed.Live.Sandboxes},
		Addresses: p.addresses(),
		Health: cri.Health{
			Log:     func() error { return cmp.Or(p.feed.Health(), p.log.Health(), p.backups.Health(), p.retention.Health()) },
			Monitor: p.health.Monitor, Network: p.health.Network,
			Confinement: func() error { return daemon.Confinement(p.drivers.Host, p.config.Runtime) },
			Plugins:     p.drivers.NRI.Problem,
			Handler:     p.drivers.Handlers.Usable,
		},
		Handlers:       func() []*runtimeapi.RuntimeHandler { return p.drivers.Describe(byDefault, p.config.State) },
		DefaultHandler: byDefault,
		CgroupDriver:   p.drivers.CgroupDriver(), DaemonVersion: version, Info: info.Show, Logger: p.logger,
	})
	runtimeapi.RegisterRuntimeServiceServer(server, service)
	runtimeapi.RegisterImageServiceServer(server, service)
	adminv1.RegisterAdminServiceServer(server, admin.New(admin.Parts{
		Log: p.log, Views: p.feed.Live, Names: p.names, Actors: p.actors,
		Registry: p.drivers.Registry, Transfers: p.executor.Pulls, Monitor: p.drivers.Monitor,
		Backups: p.backups,
	}))
}
