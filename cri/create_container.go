package cri

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/projections"
)

// defaultStopSignal ends a container whose configuration and image name none.
const defaultStopSignal = "SIGTERM"

// signalPrefix is the prefix of the CRI's signal names.
const signalPrefix = "SIGNAL_"

// CreateContainer creates a container in a ready sandbox, and returns once the
// runtime holds it.
func (s containerService) CreateContainer(ctx context.Context, req *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	config := req.GetConfig()
	if err := checkIdentity(config); err != nil {
		return nil, err
	}
	if err := s.checkContainerImages(config); err != nil {
		return nil, err
	}
	pod, err := s.sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	podConfig := pod.Config()
	config = s.UserModes.Container(config, podConfig)
	// The existing sandbox's configuration counts, not the request's copy. The kubelet
	// sends the same.
	if err := s.Validator.Container(config, podConfig); err != nil {
		return nil, err
	}
	if err := s.checkTarget(config, pod.State.ID); err != nil {
		return nil, err
	}
	logPath, err := logPath(podConfig.GetLogDirectory(), config.GetLogPath())
	if err != nil {
		return nil, err
	}
	found, err := s.Images.Resolve(ctx, config.GetImage().GetImage())
	if err != nil {
		if fault.KindOf(err) == fault.NotFound {
			return nil, fault.New(fault.NotFound, "create container", "", "config.image.image: %q is not in the image store; pull it first", config.GetImage().GetImage())
		}
		return nil, fmt.Errorf("config.image.image: %w", err)
	}
	asked, err := encode(withoutChance(config))
	if err != nil {
		return nil, err
	}
	config = withImageRef(config, found)
	if err := s.mountIDs(ctx, config); err != nil {
		return nil, err
	}
	encoded, err := encode(config)
	if err != nil {
		return nil, err
	}
	sandboxConfig, err := sandboxInForce(pod)
	if err != nil {
		return nil, err
	}
	made, err := s.Actors.CreateContainer(ctx, container.Create{
		ID:            id.Container(newID()),
		Sandbox:       pod.State.ID,
		Name:          container.Name{Name: config.GetMetadata().GetName(), Attempt: config.GetMetadata().GetAttempt()},
		Handler:       pod.State.Handler,
		Config:        encoded,
		SandboxConfig: sandboxConfig,
		ConfigDigest:  digest(asked, pod.State.Config),
		Image:         found.ID,
		LogPath:       logPath,
		StopSignal:    stopSignal(config.GetStopSignal(), found.StopSignal),
		At:            time.Now(),
	})
	if err != nil {
		return nil, createError(err)
	}
	return &runtimeapi.CreateContainerResponse{ContainerId: string(made.ID)}, nil
}

// checkIdentity refuses a container without a name or an image.
func checkIdentity(config *runtimeapi.ContainerConfig) error {
	switch {
	case config == nil:
		return invalid("config", "is missing")
	case config.GetMetadata() == nil:
		return invalid("config.metadata", "is missing")
	case config.GetMetadata().GetName() == "":
		return invalid("config.metadata.name", "is empty")
	case config.GetImage().GetImage() == "":
		return invalid("config.image.image", "is empty")
	}
	return nil
}

// sandboxInForce is a pod's configuration for a new container. A repeated request is told by
// what the pod was asked for with: the kubelet repeats that.
func sandboxInForce(pod *projections.Sandbox) ([]byte, error) {
	if _, updated := sandbox.Config(pod.State); len(updated) == 0 {
		return pod.State.Config, nil
	}
	return encode(pod.Config())
}

// terminationPath is the kubelet's annotation that names the path in the container to
// which the program writes its last words.
const terminationPath = "io.kubernetes.container.terminationMessagePath"

// withoutChance returns the configuration without what the kubelet draws anew for each
// request: the file on the node for the container's last words. A request that is
// repeated could not be told from another one otherwise.
func withoutChance(config *runtimeapi.ContainerConfig) *runtimeapi.ContainerConfig {
	path, there := config.GetAnnotations()[terminationPath]
	if !there {
		return config
	}
	config = proto.CloneOf(config)
	for _, m := range config.GetMounts() {
		if m.GetContainerPath() == path {
			m.HostPath = ""
		}
	}
	return config
}

// withImageRef returns a copy of the configuration that names the image by its registry
// digest, if known, and keeps the user's name. It becomes the status's image_ref, which
// the kubelet reports as imageID: policies and inventories expect name@digest.
func withImageRef(config *runtimeapi.ContainerConfig, found Image) *runtimeapi.ContainerConfig {
	config = proto.CloneOf(config)
	spec := config.GetImage()
	spec.UserSpecifiedImage = cmp.Or(spec.GetUserSpecifiedImage(), spec.GetImage())
	spec.Image = imageRef(found, spec.GetUserSpecifiedImage())
	spec.RuntimeHandler = "" // see checkImageSpec
	return config
}

// imageRef returns the image's digest under the user's name, else under any name, else
// the id.
func imageRef(found Image, written string) string {
	for _, ref := range found.Digests {
		name, _, _ := strings.Cut(ref, "@")
		if written == name || strings.HasPrefix(written, name+":") || strings.HasPrefix(written, name+"@") {
			return ref
		}
	}
	if len(found.Digests) > 0 {
		return found.Digests[0]
	}
	return found.ID
}

// mountIDs replaces the name of each image to be mounted with its id. The kubelet's image
// collection needs the id in the status, and a tag that moves has no effect. It is also the
// image_ref: critest wants there what PullImage has answered. A missing image is left to the
// mount, whose error the kubelet knows.
func (s containerService) mountIDs(ctx context.Context, config *runtimeapi.ContainerConfig) error {
	for i, m := range config.GetMounts() {
		name := m.GetImage().GetImage()
		if name == "" {
			continue
		}
		found, err := s.Images.Resolve(ctx, name)
		if fault.KindOf(err) == fault.NotFound && err != nil {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", mountField(i), err)
		}
		m.Image.UserSpecifiedImage = cmp.Or(m.Image.UserSpecifiedImage, name)
		m.Image.Image, m.Image.ImageRef = found.ID, found.ID
		m.Image.RuntimeHandler = "" // see checkImageSpec
	}
	return nil
}

func mountField(index int) string { return fmt.Sprintf("config.mounts[%d].image", index) }

// logPath joins the sandbox's log directory and the container's log path, which must
// stay below it. Without either, output is dropped.
func logPath(directory, path string) (string, error) {
	if directory == "" || path == "" {
		return "", nil
	}
	if !filepath.IsAbs(directory) {
		return "", invalid("config.log_directory", "%q is not absolute", directory)
	}
	if !filepath.IsLocal(path) || filepath.Clean(path) == "." {
		return "", invalid("config.log_path", "%q leads out of the sandbox's log directory", path)
	}
	return filepath.Join(directory, path), nil
}

// stopSignal returns the first signal of a stop: the configuration's, else the image's,
// else SIGTERM.
func stopSignal(configured runtimeapi.Signal, image string) string {
	if configured != runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT {
		return strings.TrimPrefix(configured.String(), signalPrefix)
	}
	return cmp.Or(image, defaultStopSignal)
}

// checkTarget refuses to join the PID namespace of another pod's container, as the CRI
// requires.
func (s containerService) checkTarget(config *runtimeapi.ContainerConfig, pod id.Sandbox) error {
	options := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if options.GetPid() != runtimeapi.NamespaceMode_TARGET {
		return nil
	}
	const field = "config.linux.security_context.namespace_options.target_id"
	target, err := s.container(options.GetTargetId())
	if err != nil {
		return fault.New(fault.KindOf(err), "", "", "%s: %v", field, err)
	}
	if target.State.Sandbox != pod {
		return invalid(field, "%q is a container of another pod", options.GetTargetId())
	}
	return nil
}
