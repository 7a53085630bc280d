package redact

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// configurations are the fields, at any depth, that hold a configuration of the CRI, or a
// part of one.
var configurations = []string{"Config", "SandboxConfig", "Change", "InForce", "UpdatedResources"}

// State returns a machine's state as JSON without the CRI's configurations, which can hold
// secrets in environments and annotations.
func State(state any) ([]byte, error) {
	whole, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("encode the state: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(whole))
	decoder.UseNumber() // a float has no room for the inode of a pidfd
	var fields any
	if err := decoder.Decode(&fields); err != nil {
		return nil, fmt.Errorf("encode the state: %w", err)
	}
	strip(fields)
	return json.Marshal(fields)
}

func strip(value any) {
	switch value := value.(type) {
	case map[string]any:
		for _, name := range configurations {
			delete(value, name)
		}
		if change, is := value[adjustment].(string); is {
			value[adjustment] = json.RawMessage(Adjustment(change))
		}
		for _, inner := range value {
			strip(inner)
		}
	case []any:
		for _, inner := range value {
			strip(inner)
		}
	}
}

// adjustment is the field, at any depth, that holds what NRI plug-ins changed, as JSON.
const adjustment = "JSON"

// Adjustment returns NRI's ContainerAdjustment as JSON without the values of environment
// variables.
func Adjustment(whole string) string {
	fields, err := object([]byte(whole))
	if err != nil {
		return `"` + Mark + `"`
	}
	for _, variable := range list(fields["env"]) {
		if variable, is := variable.(map[string]any); is {
			variable["value"] = Mark
		}
	}
	hooks, _ := fields["hooks"].(map[string]any)
	for _, stage := range hooks {
		for _, hook := range list(stage) {
			if hook, is := hook.(map[string]any); is {
				hideValues(hook, "env")
			}
		}
	}
	shown, err := json.Marshal(fields)
	if err != nil {
		return `"` + Mark + `"`
	}
	return string(shown)
}

func list(value any) []any {
	all, _ := value.([]any)
	return all
}

// Environment removes the values of environment variables from a configuration.
func Environment(config *runtimeapi.ContainerConfig) {
	for _, variable := range config.GetEnvs() {
		variable.Value = nil
	}
}

// RuntimeSpec returns an OCI spec as JSON, without the values of environment variables.
func RuntimeSpec(spec []byte) ([]byte, error) {
	whole, err := object(spec)
	if err != nil {
		return nil, fmt.Errorf("read the runtime spec: %w", err)
	}
	if process, is := whole["process"].(map[string]any); is {
		hideValues(process, "env")
	}
	delete(whole, "hooks") // their environments are the operator's
	return json.Marshal(whole)
}

// ImageSpec returns an image's configuration as JSON, without the values of environment
// variables, and without the history, which has the commands that set them.
func ImageSpec(spec []byte) ([]byte, error) {
	whole, err := object(spec)
	if err != nil {
		return nil, fmt.Errorf("read the image's configuration: %w", err)
	}
	if config, is := whole["config"].(map[string]any); is {
		hideValues(config, "Env")
	}
	delete(whole, "history")
	return json.Marshal(whole)
}

// object reads a JSON object. Its numbers stay as they are.
func object(text []byte) (fields map[string]any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return fields, decoder.Decode(&fields)
}

// hideValues replaces the values in a field that is a list of NAME=VALUE. One of another
// form is removed.
func hideValues(of map[string]any, field string) {
	variables, is := of[field].([]any)
	if !is {
		delete(of, field)
		return
	}
	for i, variable := range variables {
		text, _ := variable.(string)
		name, _, _ := strings.Cut(text, "=")
		variables[i] = name + "=" + Mark
	}
}
