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
)

// defaultStopSignal ends a container whose configuration and image name none.
const defaultStopSignal = "SIGTERM"

// signalPrefix begins the names of the CRI's enumeration of signals.
const signalPrefix = "SIGNAL_"

// CreateContainer creates a container in a ready sandbox, and returns once the
// runtime holds it.
func (s *Service) CreateContainer(ctx context.Context, req *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	config := req.GetConfig()
	switch {
	case config == nil:
		return nil, invalid("config", "is missing")
	case config.GetMetadata() == nil:
		return nil, invalid("config.metadata", "is missing")
	case config.GetMetadata().GetName() == "":
		return nil, invalid("config.metadata.name", "is empty")
	case config.GetImage().GetImage() == "":
		return nil, invalid("config.image.image", "is empty")
	}
	pod, err := s.sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	// The configuration of the sandbox that exists counts, not the one that
	// comes with the request: the two are the same from the kubelet.
	if err := s.Validator.Container(config, pod.Config); err != nil {
		return nil, err
	}
	if err := s.checkTarget(config, pod.State.ID); err != nil {
		return nil, err
	}
	logPath, err := logPath(pod.Config.GetLogDirectory(), config.GetLogPath())
	if err != nil {
		return nil, err
	}
	found, err := s.Images.Resolve(ctx, config.GetImage().GetImage())
	if err != nil {
		if fault.KindOf(err) == fault.NotFound {
			return nil, fault.New(fault.NotFound, "create container", "", "config.image.image: %q is not in the image store; pull it first", config.GetImage().GetImage())
		}
		return nil, err
	}
	config, err = s.withMountedIDs(ctx, config)
	if err != nil {
		return nil, err
	}
	encoded, err := encode(config)
	if err != nil {
		return nil, err
	}
	made, err := s.Actors.CreateContainer(ctx, container.Create{
		ID:            id.Container(newID()),
		Sandbox:       pod.State.ID,
		Name:          container.Name{Name: config.GetMetadata().GetName(), Attempt: config.GetMetadata().GetAttempt()},
		Handler:       pod.State.Handler,
		Config:        encoded,
		SandboxConfig: pod.State.Config,
		ConfigDigest:  digest(encoded, pod.State.Config),
		Image:         found.ID,
		LogPath:       logPath,
		StopSignal:    stopSignal(config.GetStopSignal(), found.StopSignal),
		At:            time.Now(),
	})
	if err != nil {
		return nil, err
	}
	return &runtimeapi.CreateContainerResponse{ContainerId: string(made.ID)}, nil
}

// withMountedIDs returns the configuration with the id of each image that is to be
// mounted in place of its name. The status then says which image is in use, as the
// kubelet's image collection needs it, and a tag that moves changes nothing. An image
// that is not there is left to the mount, whose error the kubelet knows.
func (s *Service) withMountedIDs(ctx context.Context, config *runtimeapi.ContainerConfig) (*runtimeapi.ContainerConfig, error) {
	config = proto.CloneOf(config)
	for i, m := range config.GetMounts() {
		name := m.GetImage().GetImage()
		if name == "" {
			continue
		}
		found, err := s.Images.Resolve(ctx, name)
		if err != nil {
			if fault.KindOf(err) == fault.NotFound {
				continue
			}
			return nil, fmt.Errorf("config.mounts[%d].image: %w", i, err)
		}
		m.Image.UserSpecifiedImage = cmp.Or(m.Image.UserSpecifiedImage, name)
		m.Image.Image = found.ID
	}
	return config, nil
}

// logPath joins the sandbox's log directory and the container's log path, which
// must stay below it. Output is dropped when either is missing.
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

// stopSignal returns the signal that a stop begins with: the configuration's,
// else the image's, else SIGTERM.
func stopSignal(configured runtimeapi.Signal, image string) string {
	if configured != runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT {
		return strings.TrimPrefix(configured.String(), signalPrefix)
	}
	return cmp.Or(image, defaultStopSignal)
}

// checkTarget makes sure that a container whose PID namespace is to be joined is of
// the same pod, as the CRI has it.
func (s *Service) checkTarget(config *runtimeapi.ContainerConfig, pod id.Sandbox) error {
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
