package cri

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/projections"
)

// verbose returns the info of a status: a machine's state, and the fields that scripts
// know from other runtimes.
func verbose(state any, others map[string]any) (map[string]string, error) {
	shown, err := redact.State(state)
	if err != nil {
		return nil, err
	}
	fields := map[string]any{}
	var own map[string]json.RawMessage
	if err := json.Unmarshal(shown, &own); err != nil {
		return nil, fmt.Errorf("encode the state: %w", err)
	}
	for name, value := range own {
		fields[name] = value
	}
	maps.Copy(fields, others)
	info, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("encode the info: %w", err)
	}
	return map[string]string{"info": string(info)}, nil
}

// containerInfo is the info of a container. The runtime spec is the only part of a status
// that is read from the disk; it is omitted once it is deleted.
func (s *Service) containerInfo(x *projections.Container) (map[string]string, error) {
	others := map[string]any{"pid": x.State.Creation.Process.PID}
	spec, err := s.Specs.RuntimeSpec(x.State.ID)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the runtime spec of container %s: %w", x.State.ID, err)
	}
	if err == nil {
		shown, err := redact.RuntimeSpec(spec)
		if err != nil {
			return nil, err
		}
		others["runtimeSpec"] = json.RawMessage(shown)
	}
	return verbose(x.State, others)
}
