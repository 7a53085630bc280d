package executors

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/executors/cgroups"
	"github.com/stele-runtime/stele/executors/cni"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/oci"
	"github.com/stele-runtime/stele/executors/registry"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/storage"
)

// Drivers are what effects are carried out with.
type Drivers struct {
	Cgroups  *cgroups.Manager
	Network  *cni.Driver
	Store    *storage.Store
	Registry *registry.Puller
	Monitor  *monitor.Client
	// Runtimes maps the name of each runtime handler to its driver.
	Runtimes map[string]*oci.Driver
	Host     *spec.HostFacts
}

// Config is what an Executor is made of.
type Config struct {
	Drivers
	// RootDir survives a reboot; StateDir does not.
	RootDir, StateDir string
	// MonitorBinary is the program that holds shared PID namespaces, too.
	MonitorBinary string
	// MaxLogSize is the size in bytes at which a log starts anew, 0 for none.
	MaxLogSize  int64
	Credentials *Credentials
	Execs       *Execs
	Pulls       *Pulls
	// ImageNews brings what becomes known in the course of a pull to its actor. It
	// is set before the first effect.
	ImageNews func(ctx context.Context, ref string, c image.Command) error
	Logger    *slog.Logger
}

// Executor carries out effects. Each method blocks until its effect is done.
type Executor struct{ Config }

// New returns an Executor.
func New(c Config) *Executor { return &Executor{c} }

// Sandbox carries out an effect of a sandbox that is the sandbox's own; those on
// its containers are the node's to route.
func (x *Executor) Sandbox(ctx context.Context, f sandbox.Effect) sandbox.Command {
	switch f := f.(type) {
	case sandbox.PrepareSandbox:
		return sandbox.PrepareSandboxDone{Err: x.prepareSandbox(ctx, f.Pod)}
	case sandbox.AttachNetwork:
		return x.attachNetwork(ctx, f.Pod)
	case sandbox.StartHolder:
		pid, err := x.startHolder(ctx, f.Pod)
		return sandbox.StartHolderDone{PID: pid, Err: err}
	case sandbox.StopHolder:
		return sandbox.StopHolderDone{Err: x.stopHolder(ctx, f.Pod), At: now()}
	case sandbox.DetachNetwork:
		return sandbox.DetachNetworkDone{Err: x.detachNetwork(ctx, f.Pod), At: now()}
	case sandbox.ReleaseSandbox:
		return sandbox.ReleaseSandboxDone{Err: x.releaseSandbox(ctx, f.Pod), At: now()}
	case sandbox.StopContainer, sandbox.RemoveContainer:
	}
	return f.Failed(fmt.Errorf("%T is not an effect on the sandbox itself", f), now())
}

// Container carries out an effect of a container.
func (x *Executor) Container(ctx context.Context, f container.Effect) container.Command {
	switch f := f.(type) {
	case container.PrepareRootfs:
		return container.PrepareRootfsDone{Err: x.prepareRootfs(ctx, f.Spec)}
	case container.CreateRuntime:
		process, err := x.createRuntime(ctx, f.Spec)
		return container.CreateRuntimeDone{Process: process, Err: err}
	case container.StartRuntime:
		at, err := x.startRuntime(ctx, f)
		return container.StartRuntimeDone{Err: err, At: at}
	case container.SignalStop:
		return container.SignalStopDone{Err: x.signalStop(ctx, f.Spec, f.Signal), At: now()}
	case container.AwaitGrace:
		return container.AwaitGraceDone{Deadline: f.Deadline}
	case container.Kill:
		return container.KillDone{Err: x.kill(ctx, f.Spec), At: now()}
	case container.Execute:
		return x.execute(ctx, f)
	case container.RotateLog:
		err := x.Monitor.ReopenLog(ctx, string(f.Spec.ID))
		return container.RotateLogDone{Reopen: f.Reopen, Err: err}
	case container.DeleteRuntime:
		return x.deleteRuntime(ctx, f.Spec)
	case container.ReleaseRootfs:
		return container.ReleaseRootfsDone{Err: x.releaseRootfs(ctx, f.Spec), At: now()}
	}
	panic(fmt.Sprintf("no execution for %T", f)) // the set of effects is sealed
}

// Image carries out an effect of an image reference.
func (x *Executor) Image(ctx context.Context, f image.Effect) image.Command {
	switch f := f.(type) {
	case image.FetchImage:
		return x.fetchImage(ctx, f)
	case image.LoadImages:
		return x.loadImages(ctx, f)
	case image.DeleteImage:
		return image.DeleteImageDone{Err: x.deleteImage(ctx, f.Ref)}
	}
	panic(fmt.Sprintf("no execution for %T", f)) // the set of effects is sealed
}

// sandboxDir holds everything of a sandbox that a reboot ends.
func (x *Executor) sandboxDir(s id.Sandbox) string {
	return filepath.Join(x.StateDir, "sandboxes", string(s))
}

func (x *Executor) namespacesDir(s id.Sandbox) string {
	return filepath.Join(x.sandboxDir(s), "ns")
}

// bundleDir is the OCI bundle of a container.
func (x *Executor) bundleDir(c id.Container) string {
	return filepath.Join(x.StateDir, "containers", string(c))
}

// volumesDir holds what a container writes to the volumes of its image.
func (x *Executor) volumesDir(c id.Container) string {
	return filepath.Join(x.RootDir, "volumes", string(c))
}

// runtime returns the driver of a handler. A handler may have gone from the
// configuration since the pod was made.
func (x *Executor) runtime(handler string) (*oci.Driver, error) {
	if r, ok := x.Runtimes[handler]; ok {
		return r, nil
	}
	return nil, fault.New(fault.Unavailable, "find the OCI runtime", handler, "runtime_handler: it is not configured on this node any more")
}

// decode reads a CRI message out of an effect.
func decode(b []byte, into proto.Message) error {
	if err := proto.Unmarshal(b, into); err != nil {
		return fmt.Errorf("decode the %s of the request: %w", into.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}
