package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// runtimeName is the runtime's name in the kubelet and crictl.
const runtimeName = "stele"

// Version returns the runtime's name and version.
func (s nodeService) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{
		// The version of the kubelet's API, as the CRI requires; it has always been
		// this one.
		Version:           "0.1.0",
		RuntimeName:       runtimeName,
		RuntimeVersion:    semanticVersion(s.DaemonVersion),
		RuntimeApiVersion: "v1",
	}, nil
}

// Status reports whether the node can run pods, and if not, why.
func (s nodeService) Status(_ context.Context, req *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	answer := &runtimeapi.StatusResponse{
		Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
			condition(runtimeapi.RuntimeReady,
				check{"EventLogUnavailable", s.Health.Log}, check{"MonitorUnavailable", s.Health.Monitor},
				check{"RuntimeUnavailable", func() error { return s.Health.Handler(s.DefaultHandler) }},
				check{"Unconfined", s.Health.Confinement}, check{"PluginsMissing", s.Health.Plugins}),
			condition(runtimeapi.NetworkReady, check{"NetworkPluginNotReady", s.Health.Network}),
		}},
		RuntimeHandlers: s.Handlers(),
		// The kubelet refuses pods on nodes without the features that they need.
		// SupplementalGroupsPolicy implies ContainerStatus.user.
		Features: &runtimeapi.RuntimeFeatures{SupplementalGroupsPolicy: true, MountOptions: true},
	}
	if req.GetVerbose() {
		answer.Info = map[string]string{}
		for key, value := range s.Info() {
			shown, err := json.Marshal(value)
			if err != nil {
				return nil, fmt.Errorf("encode the info %q: %w", key, err)
			}
			answer.Info[key] = string(shown)
		}
	}
	return answer, nil
}

// RuntimeConfig tells the kubelet which cgroup driver to use.
func (s nodeService) RuntimeConfig(context.Context, *runtimeapi.RuntimeConfigRequest) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{
		Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: s.CgroupDriver},
	}, nil
}

// check is a prerequisite of a condition, with the reason to report if it fails.
type check struct {
	reason string
	health func() error
}

// degraded is an error of something that works, but not as it should.
type degraded interface {
	error
	Degraded() bool
}

func condition(kind string, checks ...check) *runtimeapi.RuntimeCondition {
	met := &runtimeapi.RuntimeCondition{Type: kind, Status: true}
	for _, c := range checks {
		err := c.health()
		if err == nil {
			continue
		}
		if _, ok := errors.AsType[degraded](err); !ok {
			return &runtimeapi.RuntimeCondition{Type: kind, Reason: c.reason, Message: err.Error()}
		}
		if met.Reason = "Degraded"; met.Message != "" {
			met.Message += "; "
		}
		met.Message += err.Error()
	}
	return met
}
