package cri

import (
	"context"
	"slices"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// RunPodSandbox creates and starts a pod sandbox, and returns once it is ready.
//
// After its runtime request timeout the kubelet repeats the call with the same metadata,
// which joins the first call.
func (s podService) RunPodSandbox(ctx context.Context, req *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	config := req.GetConfig()
	if config == nil {
		return nil, invalid("config", "is missing")
	}
	meta := config.GetMetadata()
	switch {
	case meta == nil:
		return nil, invalid("config.metadata", "is missing")
	case meta.GetName() == "":
		return nil, invalid("config.metadata.name", "is empty")
	case meta.GetNamespace() == "":
		return nil, invalid("config.metadata.namespace", "is empty")
	case meta.GetUid() == "":
		return nil, invalid("config.metadata.uid", "is empty")
	}
	handler, err := s.handler(req.GetRuntimeHandler())
	if err != nil {
		return nil, err
	}
	pod := id.Sandbox(newID())
	// A repeated call asks for the same, but may get other ids.
	asked, err := encode(config)
	if err != nil {
		return nil, err
	}
	config, settle, err := s.UserModes.Sandbox(pod, handler, config)
	if err != nil {
		return nil, err
	}
	defer func() { settle(ctx.Err() == nil) }()
	if err := s.Validator.Sandbox(config); err != nil {
		return nil, err
	}
	encoded, err := encode(config)
	if err != nil {
		return nil, err
	}
	namespaces := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	ran, err := s.Actors.RunSandbox(ctx, sandbox.Run{
		ID:           pod,
		Name:         sandbox.Name{Name: meta.GetName(), Namespace: meta.GetNamespace(), UID: meta.GetUid(), Attempt: meta.GetAttempt()},
		Handler:      handler,
		Config:       encoded,
		ConfigDigest: digest(asked),
		HostNetwork:  namespaces.GetNetwork() == runtimeapi.NamespaceMode_NODE,
		// The CRI's default is POD; the kubelet sends CONTAINER unless the user wants
		// sharing.
		SharedPID: namespaces.GetPid() == runtimeapi.NamespaceMode_POD,
		At:        time.Now(),
	})
	if err != nil {
		return nil, err
	}
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: string(ran.ID)}, nil
}

// handler returns the name of the requested runtime handler.
func (s *Parts) handler(name string) (string, error) {
	if name == "" {
		name = s.DefaultHandler
	}
	if s.hasHandler(name) {
		return name, s.Health.Handler(name)
	}
	return "", invalid("runtime_handler", "%q is not configured on this node", name)
}

func (s *Parts) hasHandler(name string) bool {
	return slices.ContainsFunc(s.Handlers(), func(h *runtimeapi.RuntimeHandler) bool { return h.GetName() == name })
}
