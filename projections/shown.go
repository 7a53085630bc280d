package projections

import (
	"bytes"
	"fmt"
	"iter"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// SandboxShown is what lists show of a sandbox's configuration, and what is asked of all
// sandboxes at once. The rest stays encoded: decoded, it is four times as large. Everything
// in it is shared and must not be modified.
type SandboxShown struct {
	Metadata     *runtimeapi.PodSandboxMetadata
	CgroupParent string
	Namespaces   *runtimeapi.NamespaceOption
	SELinuxLevel string
}

// ContainerShown is what lists show of a container's configuration, see SandboxShown.
type ContainerShown struct {
	Metadata *runtimeapi.ContainerMetadata
	Image    *runtimeapi.ImageSpec
	// Limits are those in force.
	Limits *runtimeapi.LinuxContainerResources
}

// ShowSandbox takes what is shown from a configuration.
func ShowSandbox(c *runtimeapi.PodSandboxConfig) SandboxShown {
	security := c.GetLinux().GetSecurityContext()
	return SandboxShown{
		Metadata: c.GetMetadata(), CgroupParent: c.GetLinux().GetCgroupParent(),
		Namespaces: security.GetNamespaceOptions(), SELinuxLevel: security.GetSelinuxOptions().GetLevel(),
	}
}

// ShowContainer takes what is shown from a configuration.
func ShowContainer(c *runtimeapi.ContainerConfig) ContainerShown {
	return ContainerShown{
		Metadata: c.GetMetadata(), Image: c.GetImage(), Limits: c.GetLinux().GetResources(),
	}
}

// The labels and annotations of pods and containers stay encoded, too: as maps they are several
// times as large, and what repeats a list need not read them.
var (
	podLabels, podAnnotations = mapsOf(&runtimeapi.PodSandboxConfig{})
	boxLabels, boxAnnotations = mapsOf(&runtimeapi.ContainerConfig{})
)

// mapsOf are the fields of a configuration that have its labels and annotations.
func mapsOf(config proto.Message) (labels, annotations protowire.Number) {
	fields := config.ProtoReflect().Descriptor().Fields()
	return fields.ByName("labels").Number(), fields.ByName("annotations").Number()
}

// Labels decodes the labels of the sandbox. The caller owns them.
func (s *Sandbox) Labels() map[string]string { return entries(s.State.Config, podLabels) }

// Annotations decodes the annotations of the sandbox. The caller owns them.
func (s *Sandbox) Annotations() map[string]string { return entries(s.State.Config, podAnnotations) }

// Labels decodes the labels of the container. The caller owns them.
func (c *Container) Labels() map[string]string { return entries(c.State.Request.Config, boxLabels) }

// Annotations decodes the annotations of the container. The caller owns them.
func (c *Container) Annotations() map[string]string {
	return entries(c.State.Request.Config, boxAnnotations)
}

// entries returns a map of strings from an encoded message, nil for an empty one.
func entries(message []byte, field protowire.Number) (all map[string]string) {
	for entry := range values(message, field) {
		if all == nil {
			all = map[string]string{}
		}
		all[text(entry, 1)] = text(entry, 2)
	}
	return all
}

// text is a field of an entry; empty if it is not there.
func text(entry []byte, field protowire.Number) (s string) {
	for b := range values(entry, field) {
		s = string(b)
	}
	return s
}

// values yields what an encoded message has in a field of strings or messages. The message was
// decoded before, so it is well-formed.
func values(message []byte, field protowire.Number) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for rest := message; len(rest) > 0; {
			number, kind, tag := protowire.ConsumeTag(rest)
			size := protowire.ConsumeFieldValue(number, kind, rest[max(tag, 0):])
			if tag < 0 || size < 0 {
				return
			}
			if number == field && kind == protowire.BytesType {
				if value, _ := protowire.ConsumeBytes(rest[tag:]); !yield(value) {
					return
				}
			}
			rest = rest[tag+size:]
		}
	}
}

// Config decodes the CRI's configuration of the sandbox, as it is in force. The caller owns
// it.
func (s *Sandbox) Config() *runtimeapi.PodSandboxConfig {
	config, _ := sandboxConfig(s.State) // checked when the record was read
	return config
}

// Config decodes the CRI's configuration of the container, as it is in force. The caller
// owns it.
func (c *Container) Config() *runtimeapi.ContainerConfig {
	config, _ := containerConfig(c.State) // checked when the record was read
	return config
}

// show decodes what is shown, and lets the state share memory with others.
func (s *Sandbox) show(w words) error {
	config, err := sandboxConfig(s.State)
	if err != nil {
		return err
	}
	s.Shown = ShowSandbox(config)
	if s.Shown.Metadata != nil {
		s.Shown.Metadata = &runtimeapi.PodSandboxMetadata{
			Name: w.once(s.Shown.Metadata.Name), Uid: w.once(s.Shown.Metadata.Uid),
			Namespace: w.once(s.Shown.Metadata.Namespace), Attempt: s.Shown.Metadata.Attempt,
		}
	}
	name := &s.State.Name
	name.Name, name.Namespace, name.UID = w.once(name.Name), w.once(name.Namespace), w.once(name.UID)
	s.State.Handler = w.once(s.State.Handler)
	return nil
}

// show decodes what is shown, and lets the state share memory with others. The pod may be
// nil.
func (c *Container) show(w words, pod *Sandbox) error {
	config, err := containerConfig(c.State)
	if err != nil {
		return err
	}
	c.Shown = ShowContainer(config)
	r := &c.State.Request
	r.Handler, r.Image, r.StopSignal = w.once(r.Handler), w.once(r.Image), w.once(r.StopSignal)
	if c.Shown.Image != nil {
		i := c.Shown.Image
		i.Image, i.UserSpecifiedImage = w.once(i.Image), w.once(i.UserSpecifiedImage)
	}
	c.join(pod)
	return nil
}

// join lets a container share memory with its pod.
func (c *Container) join(pod *Sandbox) {
	if pod == nil {
		return
	}
	c.State.Sandbox = pod.State.ID
	if bytes.Equal(c.State.Request.SandboxConfig, pod.State.Config) {
		c.State.Request.SandboxConfig = pod.State.Config
	}
}

// joinPods lets all containers share memory with their pods. Only the feed may call it,
// before anyone reads the model.
func (l *Live) joinPods() {
	for _, c := range l.containers.byID {
		c.join(l.sandboxes.byID[c.State.Sandbox])
	}
}

// wordsKept is how many strings are remembered at a time, and longWord is longer than any
// of them, in bytes.
const wordsKept, longWord = 512, 256

// words are strings that came lately. Pods of one node have names of images and handlers in
// common, and what is shown of a pod has names that its state has.
type words map[string]string

// once returns an equal string that is kept already, if there is one.
func (w words) once(s string) string {
	if s == "" || len(s) >= longWord {
		return s
	}
	if kept, is := w[s]; is {
		return kept
	}
	if len(w) >= wordsKept {
		clear(w)
	}
	w[s] = s
	return s
}

func sandboxConfig(s sandbox.State) (*runtimeapi.PodSandboxConfig, error) {
	config := &runtimeapi.PodSandboxConfig{}
	asked, resources := sandbox.Config(s)
	if err := proto.Unmarshal(asked, config); err != nil {
		return nil, fmt.Errorf("decode the configuration of sandbox %s: %w", s.ID, err)
	}
	if len(resources) == 0 {
		return config, nil
	}
	now := &runtimeapi.LinuxPodSandboxConfig{}
	if err := proto.Unmarshal(resources, now); err != nil {
		return nil, fmt.Errorf("decode the resources of sandbox %s: %w", s.ID, err)
	}
	if config.GetLinux() == nil {
		config.Linux = &runtimeapi.LinuxPodSandboxConfig{}
	}
	config.Linux.Overhead, config.Linux.Resources = now.GetOverhead(), now.GetResources()
	return config, nil
}

func containerConfig(s container.State) (*runtimeapi.ContainerConfig, error) {
	config := &runtimeapi.ContainerConfig{}
	asked, resources := container.Config(s)
	if err := proto.Unmarshal(asked, config); err != nil {
		return nil, fmt.Errorf("decode the configuration of container %s: %w", s.ID, err)
	}
	if len(resources) == 0 {
		return config, nil
	}
	if config.GetLinux() == nil {
		config.Linux = &runtimeapi.LinuxContainerConfig{}
	}
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{}
	if err := proto.Unmarshal(resources, config.GetLinux().GetResources()); err != nil {
		return nil, fmt.Errorf("decode the resources of container %s: %w", s.ID, err)
	}
	return config, nil
}
