package cri

import (
	"context"
	"log/slog"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/projections"
)

// Actors brings commands to the machines. Every method returns once the answer
// is durable and the projections show it; errors are *fault.Fault or the
// context's. A command goes on when its caller goes away.
type Actors interface {
	RunSandbox(context.Context, sandbox.Run) (sandbox.State, error)
	CreateContainer(context.Context, container.Create) (container.State, error)
	Sandbox(context.Context, id.Sandbox, sandbox.Command, func(sandbox.State, sandbox.Event) (bool, error)) (sandbox.State, error)
	Container(context.Context, id.Container, container.Command, func(container.State, container.Event) (bool, error)) (container.State, error)
	Image(ctx context.Context, ref string, c image.Command, until func(image.State, image.Event) (bool, error)) (image.State, error)
}

// Views shows what lives, from memory. What it returns is shared and must not be
// modified. Lists are in the order of creation.
type Views interface {
	// Sandbox and Container return nil if there is none with that id.
	Sandbox(id.Sandbox) *projections.Sandbox
	Container(id.Container) *projections.Container
	Sandboxes() []*projections.Sandbox
	Containers() []*projections.Container
	ContainersOf(id.Sandbox) []*projections.Container
}

// Images reads the image store.
type Images interface {
	// List returns all images.
	List(context.Context) ([]Image, error)
	// Resolve finds an image by id, truncated id, name or digest; a NotFound
	// fault if there is none.
	Resolve(ctx context.Context, ref string) (Image, error)
	// Usage returns what images and container layers take of the disk.
	Usage(context.Context) (Usage, error)
}

// Image is an image in the store.
type Image struct {
	ID string
	// Tags and Digests are full names: host/path:tag and host/path@sha256:….
	Tags, Digests []string
	Size          uint64
	// UID and Username are the image configuration's user, one of them at most.
	UID      *int64
	Username string
	// StopSignal is the image configuration's, empty if it has none.
	StopSignal string
	Pinned     bool
	// Labels are the image configuration's, Annotations the manifest's; they are shown
	// and never obeyed.
	Labels, Annotations map[string]string
}

// Usage is what images and containers take of their file systems.
type Usage struct {
	At                              time.Time
	ImagePath, ContainerPath        string
	ImageBytes, ImageInodes         uint64
	ContainerBytes, ContainerInodes uint64
}

// Credentials keeps what a pull needs to authenticate, out of events and logs,
// until the pull is done.
type Credentials interface {
	// Keep returns the id under which the pull finds them, until drop is called.
	// Equal credentials for one reference have equal ids for as long as the
	// daemon lives.
	Keep(ref, namespace string, auth *runtimeapi.AuthConfig) (pull id.Pull, drop func())
}

// Execs collects the output of commands, which never enters an event.
type Execs interface {
	// Begin makes room for the output of a command. The command is ended when
	// ctx is. Collect returns the output once the command has ended, and must be
	// called in any case.
	Begin(ctx context.Context, x id.Exec) (collect func() (stdout, stderr []byte))
}

// Validator refuses configurations that can never work, before anything is
// done. Its errors are Invalid faults that name the field and the value.
type Validator interface {
	Sandbox(*runtimeapi.PodSandboxConfig) error
	Container(*runtimeapi.ContainerConfig, *runtimeapi.PodSandboxConfig) error
}

// Health says whether the node can do its work. Each function returns nil or
// the reason why not, from memory. An error with a method Degraded() bool says that
// the work is done, but not as it should be.
type Health struct {
	Log, Monitor, Network func() error
}

// Parts is what the services are made of.
type Parts struct {
	Actors      Actors
	Views       Views
	Images      Images
	Credentials Credentials
	Execs       Execs
	Validator   Validator
	Health      Health
	// Handlers are the runtime handlers of the node, with their features.
	// DefaultHandler is the name of the one that an empty handler means.
	Handlers       []*runtimeapi.RuntimeHandler
	DefaultHandler string
	CgroupDriver   runtimeapi.CgroupDriver
	// Version is the daemon's.
	Version string
	// Info returns what Status tells when it is asked to be verbose.
	Info   func() map[string]any
	Logger *slog.Logger
}

// Service implements the CRI's runtime and image services.
type Service struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer
	Parts
}

// New returns the services.
func New(p Parts) *Service { return &Service{Parts: p} }
