package cri

import (
	"strings"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/projections"
)

// sandbox finds a sandbox by its id or a unique prefix of it.
func (s *Parts) sandbox(name string) (*projections.Sandbox, error) {
	const field = "pod_sandbox_id"
	if name == "" {
		return nil, invalid(field, "is empty")
	}
	if exact := s.Views.Sandbox(id.Sandbox(name)); exact != nil && sandboxShown(exact) {
		return exact, nil
	}
	var found *projections.Sandbox
	for _, x := range s.Views.Sandboxes() {
		if sandboxShown(x) && strings.HasPrefix(string(x.State.ID), name) {
			if found != nil {
				return nil, invalid(field, "%q is an ambiguous id prefix", name)
			}
			found = x
		}
	}
	if found == nil {
		return nil, fault.New(fault.NotFound, "find pod sandbox", name, "%s: no such id", field)
	}
	return found, nil
}

// container finds a container by its id or a unique prefix of it.
func (s *Parts) container(name string) (*projections.Container, error) {
	const field = "container_id"
	if name == "" {
		return nil, invalid(field, "is empty")
	}
	if exact := s.Views.Container(id.Container(name)); exact != nil && containerShown(exact) {
		return exact, nil
	}
	var found *projections.Container
	for _, x := range s.Views.Containers() {
		if containerShown(x) && strings.HasPrefix(string(x.State.ID), name) {
			if found != nil {
				return nil, invalid(field, "%q is an ambiguous id prefix", name)
			}
			found = x
		}
	}
	if found == nil {
		return nil, fault.New(fault.NotFound, "find container", name, "%s: no such id", field)
	}
	return found, nil
}

// sandboxShown reports whether the kubelet may see the sandbox: not before it
// was created, nor once it is gone.
func sandboxShown(x *projections.Sandbox) bool { return x.Stage() != projections.Hidden }

// containerShown is sandboxShown for containers.
func containerShown(x *projections.Container) bool { return x.Stage() != projections.Hidden }

// selected reports whether labels have every pair of selector.
func selected(selector map[string]string, labels func() map[string]string) bool {
	if len(selector) == 0 {
		return true
	}
	all := labels()
	for key, value := range selector {
		if have, ok := all[key]; !ok || have != value {
			return false
		}
	}
	return true
}
