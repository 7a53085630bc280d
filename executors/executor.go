package executors

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/executors/cdi"
	"github.com/stele-runtime/stele/executors/cgroups"
	"github.com/stele-runtime/stele/executors/cni"
	"github.com/stele-runtime/stele/executors/handover"
	"github.com/stele-runtime/stele/executors/hooks"
	"github.com/stele-runtime/stele/executors/hostport"
	"github.com/stele-runtime/stele/executors/images"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/nri"
	"github.com/stele-runtime/stele/executors/oci"
	"github.com/stele-runtime/stele/executors/registry"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/storage"
)

// Drivers carry out the effects.
type Drivers struct {
	Cgroups  *cgroups.Manager
	Network  *cni.Driver
	HostPort *hostport.Driver
	Store    *storage.Store
	Registry *registry.Puller
	Monitor  *monitor.Client
	Handlers Handlers
	Host     *spec.HostFacts
	// NRI calls plug-ins; nil has none.
	NRI *nri.Driver
}

// Images are the images of the node, as the store and the registry driver have them.
func (d *Drivers) Images() images.Images { return images.Images{Store: d.Store, Registry: d.Registry} }

// Config is an Executor's parts.
type Config struct {
	Drivers
	// RootDir survives a reboot; StateDir does not.
	RootDir, StateDir string
	// MonitorBinary also is the program that holds shared PID namespaces.
	MonitorBinary string
	// DisableHostPorts leaves host ports that no CNI plugin maps unmapped.
	DisableHostPorts bool
	// MaxLogSize is the size in bytes at which a log starts anew, 0 for none.
	MaxLogSize int64
	// Hooks are the administrator's, for every container.
	Hooks hooks.Dirs
	// CDI are the specifications of devices that containers ask for by name.
	CDI         cdi.Dirs
	Credentials *handover.Credentials
	Execs       *handover.Execs
	Pulls       *handover.Pulls
	// ImageNews sends what becomes known during a pull to the image's actor. It is
	// set before the first effect.
	ImageNews func(ctx context.Context, ref string, c image.Command) error
	Logger    *slog.Logger
}

// Executor carries out effects. Each method blocks until its effect is done.
type Executor struct {
	Config
	pods       pods
	containers containers
	fetcher    fetcher
}

// New returns an Executor.
func New(c Config) *Executor {
	x := &Executor{Config: c}
	x.pods, x.containers, x.fetcher = pods{&x.Config}, containers{&x.Config}, fetcher{&x.Config}
	return x
}

// Sandbox carries out an effect of a sandbox that is the sandbox's own; those on
// its containers are the node's to route.
func (x *Executor) Sandbox(ctx context.Context, f sandbox.Effect) sandbox.Command {
	switch f := f.(type) {
	case sandbox.PrepareSandbox:
		return sandbox.PrepareSandboxDone{Err: x.pods.prepare(ctx, f.Pod)}
	case sandbox.AttachNetwork:
		return x.pods.attach(ctx, f.Pod)
	case sandbox.StartHolder:
		pid, err := x.pods.startHolder(ctx, f.Pod)
		return sandbox.StartHolderDone{PID: pid, Err: err}
	case sandbox.StopHolder:
		return sandbox.StopHolderDone{Err: x.pods.stopHolder(ctx, f.Pod), At: now()}
	case sandbox.DetachNetwork:
		return sandbox.DetachNetworkDone{Err: x.pods.detach(ctx, f.Pod), At: now()}
	case sandbox.ReleaseSandbox:
		return sandbox.ReleaseSandboxDone{Err: x.pods.release(ctx, f.Pod), At: now()}
	case sandbox.StopContainer, sandbox.RemoveContainer:
	}
	return f.Failed(fmt.Errorf("%T is not an effect on the sandbox itself", f), now())
}

// Container carries out an effect of a container.
func (x *Executor) Container(ctx context.Context, f container.Effect) container.Command {
	switch f := f.(type) {
	case container.PrepareRootfs:
		return container.PrepareRootfsDone{Err: x.containers.prepareRootfs(ctx, f.Spec)}
	case container.CreateRuntime:
		return x.containers.create(ctx, f.Spec)
	case container.StartRuntime:
		at, err := x.containers.start(ctx, f)
		return container.StartRuntimeDone{Err: err, At: at}
	case container.SignalStop:
		return container.SignalStopDone{Err: x.containers.signal(ctx, f.Spec, f.Signal), At: now()}
	case container.AwaitGrace:
		return container.AwaitGraceDone{Deadline: f.Deadline}
	case container.Kill:
		return container.KillDone{Err: x.containers.kill(ctx, f.Spec), At: now()}
	case container.Execute:
		return x.containers.execute(ctx, f)
	case container.UpdateRuntime:
		resources, err := x.containers.update(ctx, f)
		return container.UpdateRuntimeDone{Update: f.Update, Resources: resources, Err: err}
	case container.RotateLog:
		err := x.Monitor.ReopenLog(ctx, string(f.Spec.ID))
		return container.RotateLogDone{Reopen: f.Reopen, Err: err}
	case container.DeleteRuntime:
		return x.containers.delete(ctx, f.Spec)
	case container.ReleaseRootfs:
		return container.ReleaseRootfsDone{Err: x.containers.releaseRootfs(ctx, f.Spec), At: now()}
	}
	panic(fmt.Sprintf("no execution for %T", f)) // the set of effects is sealed
}

// Image carries out an effect of an image reference.
func (x *Executor) Image(ctx context.Context, f image.Effect) image.Command {
	switch f := f.(type) {
	case image.FetchImage:
		return x.fetcher.fetch(ctx, f)
	case image.LoadImages:
		return x.fetcher.load(ctx, f)
	case image.DeleteImage:
		return image.DeleteImageDone{Err: x.Images().Remove(ctx, f.Ref)}
	}
	panic(fmt.Sprintf("no execution for %T", f)) // the set of effects is sealed
}

// now is the wall time that outcomes carry to the machines, which have no clock.
func now() time.Time { return time.Now().UTC() }

// runtime returns the driver of a handler.
func (d *Drivers) runtime(handler string) (*oci.Driver, error) { return d.Handlers.driver(handler) }

// handler returns a handler and its driver, if new containers can be made with it.
func (d *Drivers) handler(name string) (*Handler, *oci.Driver, error) {
	h, err := d.Handlers.Find(name)
	if err != nil {
		return nil, nil, err
	}
	driver, err := d.runtime(name)
	if err == nil {
		err = d.Handlers.Usable(name)
	}
	return h, driver, err
}

// decode reads a CRI message out of an effect.
func decode(b []byte, into proto.Message) error {
	if err := proto.Unmarshal(b, into); err != nil {
		return fmt.Errorf("decode the %s of the request: %w", into.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}
