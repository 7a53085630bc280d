package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/selinux/go-selinux"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/executors"
	"github.com/stele-runtime/stele/executors/apparmor"
	"github.com/stele-runtime/stele/executors/cdi"
	"github.com/stele-runtime/stele/executors/cgroups"
	"github.com/stele-runtime/stele/executors/cni"
	"github.com/stele-runtime/stele/executors/facts"
	"github.com/stele-runtime/stele/executors/hooks"
	"github.com/stele-runtime/stele/executors/hostport"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/nri"
	"github.com/stele-runtime/stele/executors/oci"
	"github.com/stele-runtime/stele/executors/reachable"
	"github.com/stele-runtime/stele/executors/registry"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/spec/confine"
	"github.com/stele-runtime/stele/executors/storage"
)

// Drivers are the configured drivers.
type Drivers struct {
	executors.Drivers
	logger *slog.Logger
	// following asks the runtimes what they are.
	following *Background
}

// Opening is what opens the drivers.
type Opening struct {
	Config config.Config
	// Version is the daemon's.
	Version string
	// Health and Reports receive what the drivers notice.
	Health  *Health
	Reports *Reports
	// Garbage knows of pulls.
	Garbage *Garbage
	Logger  *slog.Logger
}

// Open opens all drivers, and connects to the monitor or starts it.
func (o *Opening) Open(ctx context.Context) (_ *Drivers, err error) {
	d := &Drivers{logger: o.Logger}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	layout, err := cgroups.Detect()
	if err != nil {
		return nil, err
	}
	// Later, a file that is no hook keeps containers from being created. A daemon that starts
	// says so at once.
	if err := hooks.Dirs(o.Config.Runtime.HooksDir).Check(); err != nil {
		return nil, fmt.Errorf("runtime.hooks_dir: %w", err)
	}
	driver := cmp.Or(cgroups.Driver(o.Config.Runtime.CgroupDriver), cgroups.NodesDriver())
	if d.Cgroups, err = cgroups.NewManager(layout, driver, ""); err != nil {
		return nil, err
	}
	if d.Host, err = facts.DetectHost(); err != nil {
		return nil, err
	}
	d.Host.SELinux = d.Host.SELinux && o.Config.Runtime.SELinux
	if !d.Host.SELinux || d.Host.Contexts.Process == "" {
		// The image store would give labels of its own to what has none.
		selinux.SetDisabled()
	}
	for _, module := range unused(d.Host, o.Config.Runtime) {
		o.Reports.Put(host.ReportUnconfined{Module: module})
	}
	// Again when it is needed: somebody may unload it.
	if appArmorProfile(d.Host, o.Config.Runtime) == confine.OwnAppArmorProfile {
		if err := apparmor.Load(confine.OwnAppArmorProfile); err != nil {
			o.Logger.Warn("containers that want the default AppArmor profile cannot be created", "error", err)
		}
	}
	storage.RouteLibraryLogs(o.Logger)
	nri.RouteLibraryLogs(o.Logger)
	if err := o.openImages(d); err != nil {
		return nil, err
	}
	if d.Network, err = cni.New(o.network()); err != nil {
		return nil, err
	}
	d.HostPort = hostport.New(hostport.Config{Owner: o.Config.Root, Logger: o.Logger})
	if d.Monitor, err = monitor.Start(ctx, o.monitor()); err != nil {
		return nil, fmt.Errorf("connect to the monitor: %w", err)
	}
	if o.Config.NRI.Enabled {
		if d.NRI, err = nri.New(o.nri(d.Host)); err != nil {
			return nil, err
		}
	}
	return d, d.openRuntimes(o.Config)
}

func (o *Opening) network() cni.Config {
	return cni.Config{
		ConfDir: o.Config.Network.ConfDir, PluginDirs: o.Config.Network.PluginDirs,
		CacheDir: filepath.Join(o.Config.Root, "cni"), Logger: o.Logger,
		OnReload: func(n cni.Network, err error) {
			report := host.ReportNetwork{Network: n.Name}
			if err != nil {
				report = host.ReportNetwork{Problem: err.Error()}
			}
			o.Reports.Put(report)
			o.Health.RecheckNetwork()
		},
	}
}

func (o *Opening) nri(node *spec.HostFacts) nri.Config {
	c := o.Config.NRI
	return nri.Config{
		Socket: c.Listen, PluginDir: c.PluginDir, PluginConfigDir: c.PluginConfigDir, DisableConnections: c.DisableConnections,
		RegistrationTimeout: c.RegistrationTimeout, RequestTimeout: c.RequestTimeout, Validator: c.Validator.Options(),
		Limits: nri.Limits{Swap: node.SwapLimit, Hugetlb: node.Hugetlb, CgroupV2: node.CgroupV2}, MemoryMax: spec.MemoryMax,
		InjectDevices: func(to *specs.Spec, names []string) error {
			asked, err := cdi.Asked(names, nil)
			if err != nil {
				return err
			}
			return cdi.Dirs(o.Config.Runtime.CDISpecDirs).Inject(to, asked)
		},
		Version: o.Version, Logger: o.Logger,
	}
}

func (o *Opening) monitor() monitor.Config {
	return monitor.Config{
		Binary: o.Config.Monitor, StateDir: o.Config.State, Build: o.Version, Cgroup: o.Config.MonitorCgroup, Logger: o.Logger,
		OnLost: func(reason error) {
			o.Health.SetMonitor(reason)
			o.Reports.Put(host.ReportMonitorLoss{Reason: reason.Error()})
		},
		OnStarted: func(pid int, version string) {
			o.Health.SetMonitor(nil)
			o.Reports.Put(host.ReportMonitor{PID: pid, Version: version})
		},
	}
}

// askWithin bounds how long a daemon that starts waits for its runtimes to say what they are.
const askWithin = 3 * time.Second

// openRuntimes describes the handlers, and follows what their runtimes say of themselves. Those
// that do not answer make their handlers unusable; the daemon serves the others.
func (d *Drivers) openRuntimes(c config.Config) error {
	d.Drivers.Handlers = executors.Handlers{}
	d.following = NewBackground(d.logger)
	roots := c.RuntimeRoots()
	for name, h := range c.Runtime.Handlers {
		options, err := d.options(c.Runtime, h)
		if err != nil {
			return fmt.Errorf("runtime handler %s: %w", name, err)
		}
		root := roots[name]
		handler := d.follow(oci.Runtime{Name: name, Path: h.Path, StateRoot: root})
		handler.Options, handler.CreateTimeout = options, time.Duration(h.ContainerCreateTimeout)*time.Second
		handler.Platforms = map[string]*executors.Handler{}
		for platform, path := range h.PlatformRuntimePaths {
			handler.Platforms[platform] = d.follow(oci.Runtime{Name: name + ", for " + platform, Path: path, StateRoot: root})
		}
		d.Drivers.Handlers[name] = handler
	}
	patience := time.After(askWithin)
	for _, h := range d.Drivers.Handlers {
		select {
		case <-h.Answered():
		case <-patience:
			return nil // those that are slow are waited for where they are needed
		}
	}
	return nil
}

// follow follows what a runtime says of itself.
func (d *Drivers) follow(runtime oci.Runtime) *executors.Handler {
	runtime.Systemd = d.Cgroups.Driver() == cgroups.Systemd
	handler := executors.NewHandler(runtime.Path, func(ctx context.Context) (*oci.Driver, error) {
		return oci.New(ctx, oci.Config{Runtime: runtime, Monitor: d.Monitor, Cgroups: d.Cgroups})
	})
	handler.Changed = func(problem error) {
		if problem == nil {
			d.logger.Info("a runtime handler can be used", "handler", runtime.Name)
		} else {
			d.logger.Warn("a runtime handler cannot be used", "handler", runtime.Name, "error", problem)
		}
	}
	d.following.Go("runtime handler "+runtime.Name, handler.Follow)
	return handler
}

// openImages opens the image store and what fills it.
func (o *Opening) openImages(d *Drivers) (err error) {
	c := o.Config
	imagesDir := filepath.Join(c.Root, "images")
	options := storage.Options{
		StorageConf: c.Storage.Conf, GraphRoot: c.Storage.Root, RunRoot: c.Storage.RunRoot, ImageStore: c.Storage.ImageStore,
		Driver: c.Storage.Driver, DriverOptions: c.Storage.Options, Pinned: c.Image.PinnedImages, Logger: o.Logger,
		LayerLabel: d.layerLabel(), ShortNames: registry.ShortNames(c.Image.RegistriesConf, c.Image.RegistriesConfDir, imagesDir),
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
		retries = -1 // for the registry driver 0 is its default
	}
	d.Registry, err = registry.New(registry.Options{
		Store: d.Store.Images, Dir: imagesDir, TempDir: c.Image.BigFilesTemporaryDir,
		RegistriesConf: c.Image.RegistriesConf, RegistriesConfDir: c.Image.RegistriesConfDir, ShortNameMode: c.Image.ShortNameMode,
		RegistriesDir: c.Image.RegistriesDir, CertsDir: c.Image.CertsDir,
		PolicyPath: c.Image.SignaturePolicy, PolicyDir: c.Image.SignaturePolicyDir,
		AuthFile: c.Image.GlobalAuthFile, NamespacedAuthDir: c.Image.NamespacedAuthDir,
		DecryptionKeysPath: c.Image.DecryptionKeysPath, MaxParallelLayers: uint(c.Image.ParallelLayers),
		Retries: retries, StallTimeout: c.Image.PullProgressTimeout, Platforms: platforms(c.Runtime), Pulling: o.Garbage.Pulling, Logger: o.Logger,
	})
	return err
}

// layerLabel is that of images' files; empty without SELinux.
func (d *Drivers) layerLabel() string {
	if !d.Host.SELinux {
		return ""
	}
	return d.Host.Contexts.Shared
}

// platforms are those that any handler has a program for.
func platforms(r config.Runtime) (all []string) {
	for _, h := range r.Handlers {
		all = slices.AppendSeq(all, maps.Keys(h.PlatformRuntimePaths))
	}
	return all
}

// Close ends what the drivers run in this process. The monitor continues.
func (d *Drivers) Close() {
	if d.following != nil {
		d.following.End()
	}
	d.NRI.Close()
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

// Describe describes the runtime handlers to the kubelet, as they are known now. The empty name
// stands for the default.
func (d *Drivers) Describe(byDefault, stateDir string) []*runtimeapi.RuntimeHandler {
	var all []*runtimeapi.RuntimeHandler
	mapsIDs := d.Store.MapsIDs() && reachable.Check(stateDir) == nil
	for _, name := range append([]string{""}, d.Drivers.Handlers.Names()...) {
		features := &runtimeapi.RuntimeHandlerFeatures{}
		if f := d.Drivers.Handlers[cmp.Or(name, byDefault)].Features(); f != nil {
			features.UserNamespaces = mapsIDs && spec.MapsMounts(f)
			features.RecursiveReadOnlyMounts = d.Host.RecursiveReadOnly && slices.Contains(f.MountOptions, "rro")
		}
		all = append(all, &runtimeapi.RuntimeHandler{Name: name, Features: features})
	}
	return all
}

// CgroupDriver is the driver that the kubelet has to use, too.
func (d *Drivers) CgroupDriver() runtimeapi.CgroupDriver {
	if d.Cgroups.Driver() == cgroups.Systemd {
		return runtimeapi.CgroupDriver_SYSTEMD
	}
	return runtimeapi.CgroupDriver_CGROUPFS
}
