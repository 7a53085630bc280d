package sandbox

import (
	"bytes"

	"github.com/stele-runtime/stele/actors/fault"
)

// Config returns the configuration in force: a PodSandboxConfig, and the
// LinuxPodSandboxConfig whose overhead and resources replace its own unless it is empty,
// both protobuf-encoded. Effects and projections read it only here.
func Config(s State) (config, resources []byte) { return s.Config, s.UpdatedResources }

// decideUpdate takes reports of a pod that may have containers. The limits themselves are
// the kubelet's to set: the pod's cgroup is its own.
func decideUpdate(s State, c UpdateResources) ([]Event, error) {
	if s.Phase != Ready {
		return nil, fault.New(fault.Precondition, "update pod sandbox", string(s.ID), "it is %s, not ready", s.Phase)
	}
	if bytes.Equal(s.UpdatedResources, c.Resources) {
		return nil, nil
	}
	return []Event{ResourcesUpdated(c)}, nil
}
