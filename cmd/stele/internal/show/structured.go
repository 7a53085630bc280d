package show

import (
	"encoding/json"
	"fmt"
	"io"

	"sigs.k8s.io/yaml"
)

// Structured is a form for scripts.
type Structured string

// The forms for scripts.
const (
	AsJSON Structured = "json"
	AsYAML Structured = "yaml"
)

func (f Structured) write(to io.Writer, value any) error {
	if f != AsYAML {
		out := json.NewEncoder(to)
		out.SetIndent("", "  ")
		return out.Encode(value)
	}
	text, err := yaml.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode the answer as YAML: %w", err)
	}
	_, err = to.Write(text)
	return err
}
