package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/node"
	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/executors"
	"github.com/stele-runtime/stele/executors/cgroups"
	"github.com/stele-runtime/stele/executors/cni"
	"github.com/stele-runtime/stele/executors/facts"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/oci"
	"github.com/stele-runtime/stele/executors/registry"
	"github.com/stele-runtime/stele/executors/storage"
)

const (
	// networkCheckEvery bounds how old the answer to "is the network ready?" may
	// be. The kubelet asks every few seconds.
	networkCheckEvery  = 5 * time.Second
	networkCheckWithin = 10 * time.Second
	// recordRetry is the pause before an exit is offered to the log again.
	recordRetry = 500 * time.Millisecond
	// recordTries is how often an exit is offered to a stream that fails of itself.
	recordTries = 10
)

// drivers are the executors' drivers as the configuration has them.
type drivers struct {
	executors.Drivers
	logger *slog.Logger

	mu sync.Mutex
	// network is the last answer to whether the pod network is ready.
	network error
	// lostMonitor is why there is no monitor at the moment.
	lostMonitor error
}

var errNotChecked = errors.New("the pod network was not checked yet")

func openDrivers(ctx context.Context, c config.Config, reports *reports, logger *slog.Logger) (_ *drivers, err error) {
	d := &drivers{logger: logger, network: errNotChecked}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	layout, err := cgroups.Detect()
	if err != nil {
		return nil, err
	}
	if d.Cgroups, err = cgroups.NewManager(layout, cgroupDriver(c.Runtime.CgroupDriver), ""); err != nil {
		return nil, err
	}
	if d.Host, err = facts.DetectHost(); err != nil {
		return nil, err
	}
	storage.RouteLibraryLogs(logger)
	if err := d.openImages(c, logger); err != nil {
		return nil, err
	}
	d.Network, err = cni.New(cni.Config{
		ConfDir: c.Network.ConfDir, PluginDirs: c.Network.PluginDirs,
		CacheDir: filepath.Join(c.Root, "cni"), Logger: logger, OnReload: reports.network,
	})
	if err != nil {
		return nil, err
	}
	d.Monitor, err = monitor.Start(ctx, monitor.Config{
		Binary: c.Monitor, StateDir: c.State, Build: version, Cgroup: c.MonitorCgroup, Logger: logger,
		OnLost: func(reason error) {
			d.setMonitor(reason)
			reports.monitorLost(reason)
		},
		OnStarted: func(pid int, version string) {
			d.setMonitor(nil)
			reports.monitorStarted(pid, version)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("meet the monitor: %w", err)
	}
	d.Runtimes = map[string]*oci.Driver{}
	for name, h := range c.Runtime.Handlers {
		d.Runtimes[name], err = oci.New(ctx, oci.Config{
			Runtime: oci.Runtime{
				Name: name, Path: h.Path, StateRoot: filepath.Join(c.State, "runtimes", name),
				Systemd: d.Cgroups.Driver() == cgroups.Systemd,
			},
			Monitor: d.Monitor, Cgroups: d.Cgroups, Logger: logger,
		})
		if err != nil {
			return nil, fmt.Errorf("runtime handler %s: %w", name, err)
		}
	}
	return d, nil
}

// openImages opens the image store and what fills it.
func (d *drivers) openImages(c config.Config, logger *slog.Logger) (err error) {
	imagesDir := filepath.Join(c.Root, "images")
	options := storage.Options{
		StorageConf: c.Storage.Conf, GraphRoot: c.Storage.Root, RunRoot: c.Storage.RunRoot, ImageStore: c.Storage.ImageStore,
		Driver: c.Storage.Driver, DriverOptions: c.Storage.Options, Pinned: c.Image.PinnedImages, Logger: logger,
		ShortNames: registry.ShortNames(c.Image.RegistriesConf, c.Image.RegistriesConfDir, imagesDir),
	}
	if options.StorageConf == "" {
		options.GraphRoot = cmp.Or(options.GraphRoot, filepath.Join(c.Root, "storage"))
		options.RunRoot = cmp.Or(options.RunRoot, filepath.Join(c.State, "storage"))
	}
	if d.Store, err = storage.Open(options); err != nil {
		return fmt.Errorf("open the image store: %w", err)
	}
	retries := c.Image.PullRetries
	if retries == 0 {
		retries = -1 // to the registry driver 0 means its default
	}
	d.Registry, err = registry.New(registry.Options{
		Store: d.Store.Images, Dir: imagesDir, TempDir: c.Image.BigFilesTemporaryDir,
		RegistriesConf: c.Image.RegistriesConf, RegistriesConfDir: c.Image.RegistriesConfDir, ShortNameMode: c.Image.ShortNameMode,
		RegistriesDir: c.Image.RegistriesDir, CertsDir: c.Image.CertsDir,
		PolicyPath: c.Image.SignaturePolicy, PolicyDir: c.Image.SignaturePolicyDir,
		AuthFile: c.Image.GlobalAuthFile, NamespacedAuthDir: c.Image.NamespacedAuthDir,
		DecryptionKeysPath: c.Image.DecryptionKeysPath, MaxParallelLayers: uint(c.Image.ParallelLayers),
		Retries: retries, StallTimeout: c.Image.PullProgressTimeout, Logger: logger,
	})
	return err
}

func cgroupDriver(configured string) cgroups.Driver {
	if configured != "" {
		return cgroups.Driver(configured)
	}
	return cgroups.Cgroupfs
}

// close ends what the drivers run in this process. The monitor lives on.
func (d *drivers) close() {
	if d.Monitor != nil {
		if err := d.Monitor.Close(); err != nil {
			d.logger.Warn("monitor's connection not closed", "error", err)
		}
	}
	if d.Network != nil {
		d.Network.Close()
	}
	if d.Store != nil {
		d.Store.Close()
	}
}

func (d *drivers) setMonitor(lost error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lostMonitor = lost
}

func (d *drivers) monitorHealth() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lostMonitor
}

func (d *drivers) networkHealth() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.network
}

// watched returns the ids that the monitor knows.
func (d *drivers) watched(ctx context.Context) (map[string]bool, error) {
	all, err := d.Monitor.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the monitor what it watches: %w", err)
	}
	watched := map[string]bool{}
	for _, c := range all {
		watched[c.ID] = true
	}
	return watched, nil
}

// follow runs what goes on beside the calls until ctx is done: exits from the
// monitor, reports to the node's stream, checks of the network. The channel is
// closed when all of it has ended.
func (d *drivers) follow(ctx context.Context, actors *node.Node, reports *reports, logger *slog.Logger) <-chan struct{} {
	var all sync.WaitGroup
	all.Go(func() { d.followExits(ctx, actors, logger) })
	all.Go(func() { d.followLosses(ctx, actors, logger) })
	all.Go(func() { reports.record(ctx, actors, logger) })
	all.Go(func() { d.followNetwork(ctx, reports.reloaded) })
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	return done
}

// followExits brings exits to the log, in order, and tells the monitor what it
// may forget. An exit that the log cannot take stays with the monitor.
func (d *drivers) followExits(ctx context.Context, actors *node.Node, logger *slog.Logger) {
	for exit := range d.Monitor.Exits(ctx, 0) {
		known := executors.ExitOf(exit)
		process := container.Process{PID: exit.Process.PID, StartTime: exit.Process.StartTime, Inode: exit.Process.Inode}
		for failed := 0; ; {
			err := actors.Exited(ctx, exit.ContainerID, process, known)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			logger.Error("exit not recorded", "container", exit.ContainerID, "error", err)
			if fault.KindOf(err) != fault.Unavailable {
				// A panic passes. A stream in quarantine stays, and would hold up all others.
				if failed++; failed == recordTries {
					break
				}
			}
			if !pause(ctx, recordRetry) {
				return
			}
		}
		if err := d.Monitor.Ack(ctx, exit.Seq); err != nil && ctx.Err() == nil {
			logger.Warn("exit not acknowledged, it will come again", "container", exit.ContainerID, "error", err)
		}
	}
}

// followLosses brings to the log what logs have refused. The monitor counts, so that
// one that the log cannot take is in the next.
func (d *drivers) followLosses(ctx context.Context, actors *node.Node, logger *slog.Logger) {
	for loss := range d.Monitor.Losses(ctx) {
		_, err := actors.Container(ctx, id.Container(loss.ContainerID), container.ReportLoss{Bytes: loss.Bytes, Reason: loss.Reason}, nil)
		if err != nil && ctx.Err() == nil && fault.KindOf(err) != fault.NotFound {
			logger.Warn("loss of output not recorded", "container", loss.ContainerID, "bytes", loss.Bytes, "error", err)
		}
	}
}

// followNetwork keeps the answer to "is the network ready?" fresh, so that Status
// never waits for a plugin.
func (d *drivers) followNetwork(ctx context.Context, reloaded <-chan struct{}) {
	for {
		checking, cancel := context.WithTimeout(ctx, networkCheckWithin)
		err := d.Network.Status(checking)
		cancel()
		d.mu.Lock()
		d.network = err
		d.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-reloaded:
		case <-time.After(networkCheckEvery):
		}
	}
}

// pause waits, and reports false if ctx was done first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// handlers describes the runtime handlers to the kubelet. The empty name is the
// default's.
func (d *drivers) handlers(byDefault string) []*runtimeapi.RuntimeHandler {
	var all []*runtimeapi.RuntimeHandler
	for _, name := range append([]string{""}, slices.Sorted(maps.Keys(d.Runtimes))...) {
		runtime := d.Runtimes[name]
		if name == "" {
			runtime = d.Runtimes[byDefault]
		}
		features := &runtimeapi.RuntimeHandlerFeatures{}
		if f := runtime.Features(); f != nil {
			features.RecursiveReadOnlyMounts = d.Host.RecursiveReadOnly && slices.Contains(f.MountOptions, "rro")
		}
		all = append(all, &runtimeapi.RuntimeHandler{Name: name, Features: features})
	}
	return all
}

func (d *drivers) cgroupDriver() runtimeapi.CgroupDriver {
	if d.Cgroups.Driver() == cgroups.Systemd {
		return runtimeapi.CgroupDriver_SYSTEMD
	}
	return runtimeapi.CgroupDriver_CGROUPFS
}

// reports carries what drivers notice to the node's stream. Drivers begin before
// the actors do and must not wait for them.
type reports struct {
	commands chan host.Command
	// reloaded tells that the network's configuration has changed.
	reloaded chan struct{}
}

func newReports() *reports {
	return &reports{commands: make(chan host.Command, 64), reloaded: make(chan struct{}, 1)}
}

func (r *reports) monitorStarted(pid int, version string) {
	r.put(host.ReportMonitor{PID: pid, Version: version})
}

func (r *reports) monitorLost(reason error) {
	r.put(host.ReportMonitorLoss{Reason: reason.Error()})
}

func (r *reports) network(n cni.Network, err error) {
	report := host.ReportNetwork{Network: n.Name}
	if err != nil {
		report = host.ReportNetwork{Problem: err.Error()}
	}
	r.put(report)
	select {
	case r.reloaded <- struct{}{}:
	default: // a check is due already
	}
}

// put never blocks a driver; a flood of reports loses its tail.
func (r *reports) put(c host.Command) {
	select {
	case r.commands <- c:
	default:
	}
}

func (r *reports) record(ctx context.Context, actors *node.Node, logger *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-r.commands:
			if err := actors.Host(ctx, c); err != nil && ctx.Err() == nil {
				logger.Warn("report not recorded", "report", fmt.Sprintf("%+v", c), "error", err)
			}
		}
	}
}
