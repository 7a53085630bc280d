package nri

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	validator "github.com/containerd/nri/plugins/default-validator"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// runtimeName is the runtime's name to plug-ins.
	runtimeName = "stele"
	// dialWithin bounds the look at who serves the socket.
	dialWithin = time.Second
)

// The defaults of NRI, which plug-ins know.
const (
	DefaultSocket              = adaptation.DefaultSocketPath
	DefaultPluginDir           = adaptation.DefaultPluginPath
	DefaultPluginConfigDir     = adaptation.DefaultPluginConfigPath
	DefaultRegistrationTimeout = adaptation.DefaultPluginRegistrationTimeout
	DefaultRequestTimeout      = adaptation.DefaultPluginRequestTimeout
)

// Config is a Driver's.
type Config struct {
	// Socket is where plug-ins connect. PluginDir holds those to start, PluginConfigDir
	// their configurations.
	Socket, PluginDir, PluginConfigDir string
	// DisableConnections: only plug-ins from PluginDir.
	DisableConnections bool
	// RegistrationTimeout bounds a plug-in's registration, RequestTimeout its answer to
	// each hook.
	RegistrationTimeout, RequestTimeout time.Duration
	// Validator refuses adjustments.
	Validator Validator
	// Limits are those that the node has.
	Limits Limits
	// MemoryMax reads a memory limit from files of cgroup v2, in bytes; false if there is none.
	MemoryMax func(unified map[string]string) (limit int64, has bool)
	// InjectDevices adds CDI devices to a specification, by their names.
	InjectDevices func(to *specs.Spec, names []string) error
	// Version is the daemon's.
	Version string
	Logger  *slog.Logger
}

// Limits are kinds of limits that not every node has.
type Limits struct{ Swap, Hugetlb, CgroupV2 bool }

// Validator is the library's default validator.
type Validator = validator.DefaultValidatorConfig

// Source knows what exists, and updates it.
type Source interface {
	// Snapshot returns the pods that are not being made or removed, and the containers that
	// were created and have not ended. One that is being created is among them if told
	// reports that plug-ins know of it.
	Snapshot(ctx context.Context, told func(id string) bool) ([]Pod, []Container, error)
	// Update changes a container's limits without asking plug-ins. Zeros stay as they are.
	Update(ctx context.Context, container string, change *cri.LinuxContainerResources) error
}

// Driver calls plug-ins. The nil Driver has none.
type Driver struct {
	config  Config
	library *adaptation.Adaptation
	witness *witness
	told    told
	updater updater

	// started is closed when the plug-ins of the folder have registered. Hooks wait for it.
	started chan struct{}
	// problem is why some plug-ins cannot take part; it is set before started is closed.
	problem error

	// calls is held during a hook: the library calls plug-ins one after the other anyway,
	// and what the witness sees is about one hook.
	calls sync.Mutex
}

// New returns a Driver that Start has yet to start. It sets the library's timeouts, which
// are global.
func New(c Config) (*Driver, error) {
	adaptation.SetPluginRegistrationTimeout(c.RegistrationTimeout)
	adaptation.SetPluginRequestTimeout(c.RequestTimeout)
	d := &Driver{config: c, witness: &witness{logger: c.Logger}, started: make(chan struct{})}
	d.updater.init(c.Logger)
	d.told.init()
	options := []adaptation.Option{
		adaptation.WithSocketPath(c.Socket), adaptation.WithPluginPath(c.PluginDir), adaptation.WithPluginConfigPath(c.PluginConfigDir),
		adaptation.WithDefaultValidator(&c.Validator), adaptation.WithMetrics(d.witness),
	}
	if !c.DisableConnections {
		// The library would take the socket from whoever serves it.
		d.problem = served(c.Socket)
	}
	if c.DisableConnections || d.problem != nil {
		options = append(options, adaptation.WithDisabledExternalConnections())
	}
	var err error
	d.library, err = adaptation.New(runtimeName, c.Version, d.synchronize, d.updater.all, options...)
	if err != nil {
		return nil, fmt.Errorf("make the NRI adaptation: %w", err)
	}
	return d, nil
}

// served returns an error if somebody serves a socket.
func served(socket string) error {
	conn, err := net.DialTimeout("unix", socket, dialWithin)
	if err != nil {
		return nil // nobody is there, or the library says why it cannot listen
	}
	_ = conn.Close()
	return fmt.Errorf("NRI plug-ins cannot connect: another process serves %s; set nri.nri_listen to another path, or nri.nri_disable_connections", socket)
}

// Start starts the plug-ins of the folder, tells them what exists, and lets others connect.
// It returns once the first have registered, or failed to; Problem then says what is wrong.
func (d *Driver) Start(source Source) {
	if d == nil {
		return
	}
	d.updater.source = source
	defer close(d.started)
	listens := !d.config.DisableConnections && d.problem == nil
	err := guarded(d.library.Start)
	if err != nil {
		d.problem = errors.Join(d.problem, fmt.Errorf("NRI plug-ins cannot all take part: %w", err))
	} else if listens {
		// Whoever connects can change every container. The library leaves it to the umask.
		d.problem = os.Chmod(d.config.Socket, 0o600)
	}
	if d.problem != nil {
		d.config.Logger.Warn("NRI is not complete", "error", d.problem)
	}
}

// guarded turns a panic into an error.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// Close ends the plug-ins of the folder and the others' connections. No hook may run.
func (d *Driver) Close() {
	if d == nil {
		return
	}
	d.updater.close()
	d.library.Stop()
}

// Problem returns why some plug-ins cannot take part, or nil. It never waits.
func (d *Driver) Problem() error {
	if d == nil {
		return nil
	}
	select {
	case <-d.started:
	default:
		return nil
	}
	if d.problem == nil {
		return nil
	}
	return degraded{d.problem}
}

// degraded is a problem with which the node works, though not with all its plug-ins.
type degraded struct{ error }

// Degraded says so to the CRI's Status.
func (degraded) Degraded() bool { return true }

// Unwrap returns the problem.
func (d degraded) Unwrap() error { return d.error }

// enter waits until the plug-ins of the folder are there, and keeps others from being
// synchronized until leave is called: what a hook is about is then in their snapshot, or
// the hook is for them, too.
func (d *Driver) enter(ctx context.Context) (leave func(), err error) {
	select {
	case <-d.started:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return d.library.BlockPluginSync().Unblock, nil
}

// listening reports whether there is any plug-in.
func (d *Driver) listening() bool { return d.witness.plugins.Load() > 0 }

// validatorMissing returns an error if the validator is wanted and could not be started:
// what it would refuse must not pass.
func (d *Driver) validatorMissing() error {
	if !d.config.Validator.Enable || d.listening() {
		return nil
	}
	return fmt.Errorf("the NRI validator is enabled and does not run: %w", cmp.Or(d.problem, errors.New("it was closed")))
}

// call makes one hook's request. It returns the plug-ins that asked for adjustments.
func (d *Driver) call(request func() error) (adjusted []string, err error) {
	d.calls.Lock()
	defer d.calls.Unlock()
	d.witness.begin()
	err = guarded(request)
	adjusted, failed := d.witness.end()
	if err != nil {
		err = blame(err, failed)
	}
	return adjusted, err
}

// tell makes a hook's request that nothing depends on.
func (d *Driver) tell(hook, id string, request func() error) {
	if _, err := d.call(request); err != nil {
		d.config.Logger.Warn("an NRI plug-in failed, which changes nothing", "hook", hook, "id", id, "error", err)
	}
}
