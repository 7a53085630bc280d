package cri

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/cri/streaming"
	"github.com/stele-runtime/stele/executors/streams"
	"github.com/stele-runtime/stele/projections"
)

// Actors delivers commands to the machines. Every method returns once the answer is
// durable and visible in the projections; errors are *fault.Fault or the context's. A
// command continues after its caller leaves.
type Actors interface {
	RunSandbox(context.Context, sandbox.Run) (sandbox.State, error)
	CreateContainer(context.Context, container.Create) (container.State, error)
	Sandbox(context.Context, id.Sandbox, sandbox.Command, func(sandbox.State, sandbox.Event) (bool, error)) (sandbox.State, error)
	Container(context.Context, id.Container, container.Command, func(container.State, container.Event) (bool, error)) (container.State, error)
	Image(ctx context.Context, ref string, c image.Command, until func(image.State, image.Event) (bool, error)) (image.State, error)
}

// Views answers from memory what exists. Results are shared and must not be modified;
// lists are in creation order.
type Views interface {
	// Sandbox and Container return nil for an unknown id.
	Sandbox(id.Sandbox) *projections.Sandbox
	Container(id.Container) *projections.Container
	Sandboxes() []*projections.Sandbox
	Containers() []*projections.Container
	ContainersOf(id.Sandbox) []*projections.Container
}

// PodEvents are the turns in the lives of pods, in the log's order.
type PodEvents interface {
	Subscribe() *projections.Subscription
}

// Images reads the image store.
type Images interface {
	// List returns all images.
	List(context.Context) ([]Image, error)
	// Resolve finds an image by id, truncated id, name or digest. An unknown one
	// is a NotFound fault.
	Resolve(ctx context.Context, ref string) (Image, error)
	// Usage returns the disk space of images and container layers.
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
	// Config is the image's configuration, nil for an artifact. It is only shown.
	Config *imagespec.Image
	// Labels are the image configuration's, Annotations the manifest's. They are
	// shown and have no effect.
	Labels, Annotations map[string]string
}

// Usage is the space that images and containers use on their file systems.
type Usage struct {
	At                              time.Time
	ImagePath, ContainerPath        string
	ImageBytes, ImageInodes         uint64
	ContainerBytes, ContainerInodes uint64
}

// Credentials holds a pull's secrets until the pull is done, and keeps them out of
// events and logs.
type Credentials interface {
	// Keep returns the id under which the pull finds them until drop is called.
	// Equal credentials for a reference get equal ids during the daemon's life.
	Keep(ref, namespace string, auth *runtimeapi.AuthConfig) (pull id.Pull, drop func())
}

// Execs connects commands with the streams of those who wait for them. What goes through
// them never goes into an event.
type Execs interface {
	// Begin announces the streams of a command, which is stopped when ctx ends. End must
	// always be called.
	Begin(ctx context.Context, x id.Exec, stdio streams.Stdio) (end func())
}

// Streams serves the streams of clients. Its errors are those of the package streaming.
type Streams interface {
	Exec(streaming.Command) (url string, err error)
	Attach(streaming.Command) (url string, err error)
	PortForward(streaming.Forward) (url string, err error)
}

// Processes connects clients with what runs in pods.
type Processes interface {
	// Attach connects a client with a container's streams until either ends.
	Attach(context.Context, id.Container, streams.Stdio) error
	// Dial connects to a port on a pod's loopback.
	Dial(ctx context.Context, pod id.Sandbox, hostNetwork bool, port uint16) (*net.TCPConn, error)
}

// Specs returns the OCI spec of a container, or fs.ErrNotExist.
type Specs interface {
	RuntimeSpec(id.Container) ([]byte, error)
}

// Stats reads from the kernel what pods and containers use. Answers have an element for
// each question, in the same order. Nothing but the end of the context is an error: what
// cannot be read has no figures.
type Stats interface {
	// Containers returns what containers use, without attributes.
	Containers(context.Context, []*projections.Container) ([]*runtimeapi.ContainerStats, error)
	// Pods returns what pods use, with each of the given containers.
	Pods(context.Context, []Members) ([]*runtimeapi.LinuxPodSandboxStats, error)
	// PodMetrics returns the metrics of pods, with those of the given containers that are
	// still there. Descriptors describes them; it never changes.
	PodMetrics(context.Context, []Members) ([]*runtimeapi.PodSandboxMetrics, error)
	Descriptors() []*runtimeapi.MetricDescriptor
}

// Members are the containers of a pod that are asked about.
type Members struct {
	Pod        *projections.Sandbox
	Containers []*projections.Container
}

// Places says where things are on the node.
type Places interface {
	// Namespaces are where a sandbox's own namespaces are pinned, by their names in the
	// OCI spec.
	Namespaces(sandbox.State) map[string]string
	// SandboxCgroup and ContainerCgroup are below the mountpoints of the hierarchies, and
	// empty if there is none.
	SandboxCgroup(sandbox.State) string
	ContainerCgroup(container.State) string
}

// Validator rejects configurations that can never work, before anything is done. Its
// errors are Invalid faults that name the field and the value.
type Validator interface {
	Sandbox(*runtimeapi.PodSandboxConfig) error
	Container(*runtimeapi.ContainerConfig, *runtimeapi.PodSandboxConfig) error
	UpdateSandbox(*runtimeapi.UpdatePodSandboxResourcesRequest) error
	// Update takes the configuration in force.
	Update(*runtimeapi.ContainerConfig, *runtimeapi.UpdateContainerResourcesRequest) error
}

// UserModes gives user namespaces to pods that ask for one by annotation.
type UserModes interface {
	// Sandbox returns the configuration with the mappings of a pod that is about to be made;
	// without such an annotation, the same. If there is no error, settle must be called, and
	// says whether the creation was answered. Errors are Invalid faults that name the
	// annotation, or Precondition faults if the node has no ids for it.
	Sandbox(pod id.Sandbox, handler string, config *runtimeapi.PodSandboxConfig) (filled *runtimeapi.PodSandboxConfig, settle func(answered bool), err error)
	// Container returns the configuration of a container in such a pod, with the numbers that
	// its users have inside.
	Container(config *runtimeapi.ContainerConfig, pod *runtimeapi.PodSandboxConfig) *runtimeapi.ContainerConfig
}

// Plugins may refuse what no effect carries out.
type Plugins interface {
	// UpdatePod is asked before a pod's limits change.
	UpdatePod(ctx context.Context, pod sandbox.State, overhead, resources *runtimeapi.LinuxContainerResources) error
}

// PodAddresses takes the ranges that the node's pods have addresses from.
type PodAddresses interface {
	// Set records them, and configures the network if it is this node's to configure. Doing
	// it again costs nothing.
	Set(ctx context.Context, ranges []netip.Prefix) error
}

// Health reports, from memory, why the node cannot do its work; nil means that it can.
// An error with a method Degraded() bool means that it works, but not as it should.
type Health struct {
	Log, Monitor, Network, Confinement, Plugins func() error
	// Handler says why the runtime of a handler cannot be used. It does not wait.
	Handler func(name string) error
}

// Parts are the services' dependencies.
type Parts struct {
	Actors      Actors
	Views       Views
	PodEvents   PodEvents
	Images      Images
	Credentials Credentials
	Execs       Execs
	Streams     Streams
	Processes   Processes
	Specs       Specs
	Places      Places
	Stats       Stats
	Validator   Validator
	UserModes   UserModes
	Plugins     Plugins
	Addresses   PodAddresses
	Health      Health
	// Handlers are the node's runtime handlers with the features that they have now;
	// DefaultHandler is the one that an empty name means. It does not wait.
	Handlers       func() []*runtimeapi.RuntimeHandler
	DefaultHandler string
	CgroupDriver   runtimeapi.CgroupDriver
	// DaemonVersion is that of the build.
	DaemonVersion string
	// Info returns what a verbose Status shows.
	Info   func() map[string]any
	Logger *slog.Logger
}

// Service implements the CRI's runtime and image services. All its fields have the same
// parts.
type Service struct {
	*Parts
	podService
	containerService
	streamService
	statsService
	imageService
	nodeService
	unserved
}

type (
	podService struct {
		*Parts
		last *repeated[*projections.Sandbox]
	}
	containerService struct {
		*Parts
		last *repeated[*projections.Container]
	}
	// streamService serves ExecSync as well: a session without a client.
	streamService struct {
		*Parts
		// outputs bounds what ExecSync collects.
		outputs *outputs
	}
	statsService struct{ *Parts }
	imageService struct{ *Parts }
	nodeService  struct{ *Parts }
	// unserved has the calls that a newer API may add. It is a level deeper than the others,
	// so that their methods come first.
	unserved struct {
		runtimeapi.UnimplementedRuntimeServiceServer
		runtimeapi.UnimplementedImageServiceServer
	}
)

// New returns the services.
func New(p Parts) *Service {
	return &Service{
		Parts:            &p,
		podService:       podService{&p, &repeated[*projections.Sandbox]{}},
		containerService: containerService{&p, &repeated[*projections.Container]{}},
		streamService:    streamService{&p, &outputs{}}, statsService: statsService{&p},
		imageService: imageService{&p}, nodeService: nodeService{&p},
	}
}
