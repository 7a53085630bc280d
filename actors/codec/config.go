package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/redact"
)

// configJSON returns a CRI configuration as JSON if the field of that name holds
// one. What cannot be read is shown as its size and why.
func configJSON(field protoreflect.FullName, config []byte, environment bool) (shown string, is bool) {
	m := configOf(field)
	if m == nil {
		return "", false
	}
	shown, err := toJSON(m, config, environment)
	if err != nil {
		return fmt.Sprintf("%s (%s)", size(config), printable(err.Error())), true
	}
	return shown, true
}

// toJSON reads a configuration into m and returns it as JSON.
func toJSON(m proto.Message, config []byte, environment bool) (string, error) {
	if err := proto.Unmarshal(config, m); err != nil {
		return "", err
	}
	if c, has := m.(*cri.ContainerConfig); has && !environment {
		redact.Environment(c)
	}
	spaced, err := protojson.Marshal(m)
	if err != nil {
		return "", err
	}
	// protojson puts spaces at random, so that nobody relies on them.
	var compact bytes.Buffer
	if err := json.Compact(&compact, spaced); err != nil {
		return "", err
	}
	return printableJSON(compact.String()), nil
}

// printableJSON escapes what a terminal would act on. In JSON without spaces that
// stands only within strings.
func printableJSON(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// configOf returns an empty message of the kind that a field holds, nil if it
// holds no configuration.
func configOf(field protoreflect.FullName) proto.Message {
	switch field {
	case "stele.event.v1.SandboxRequested.config",
		"stele.event.v1.ContainerRequested.sandbox_config",
		"stele.event.v1.PullRequested.sandbox_config":
		return &cri.PodSandboxConfig{}
	case "stele.event.v1.SandboxResourcesUpdated.resources":
		return &cri.LinuxPodSandboxConfig{}
	case "stele.event.v1.ContainerRequested.config":
		return &cri.ContainerConfig{}
	case "stele.event.v1.ResourcesUpdateRequested.change", "stele.event.v1.ResourcesUpdateRequested2.change":
		return &cri.UpdateContainerResourcesRequest{}
	case "stele.event.v1.ResourcesUpdated.resources", "stele.event.v1.ContainerCreated4.resources":
		return &cri.LinuxContainerResources{}
	}
	return nil
}
