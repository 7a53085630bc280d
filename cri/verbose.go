package cri

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/projections"
)

// The verbose infos have the fields that scripts read from other runtimes, under the same
// names: sandboxID, pid, removing, privileged, image, config, runtimeSpec, imageSpec.
// Configurations are in the form that they have in Go, as elsewhere.

// containerInfo is the info of a container.
type containerInfo struct {
	SandboxID      string `json:"sandboxID"`
	PID            int    `json:"pid"` // of its init, also after the end
	Removing       bool   `json:"removing"`
	Privileged     bool   `json:"privileged"`
	RuntimeHandler string `json:"runtimeHandler"`
	Image          string `json:"image"` // as the user named it
	ImageID        string `json:"imageID"`
	LogPath        string `json:"logPath"`
	CgroupPath     string `json:"cgroupPath"`
	// NetNS is empty in the node's network.
	NetNS       string                      `json:"netns"`
	Exit        *exitInfo                   `json:"exit,omitempty"`
	Owed        []owedInfo                  `json:"owed"`
	Damage      string                      `json:"damage,omitempty"`
	Config      *runtimeapi.ContainerConfig `json:"config"`
	RuntimeSpec json.RawMessage             `json:"runtimeSpec,omitempty"`
	State       json.RawMessage             `json:"state"`
}

// exitInfo is how a container ended.
type exitInfo struct {
	Code      int       `json:"code"`
	Signal    int       `json:"signal,omitempty"`
	OOMKilled bool      `json:"oomKilled"`
	At        time.Time `json:"at"`
	Unknown   string    `json:"unknown,omitempty"`
	Note      string    `json:"note,omitempty"`
	// MemoryPeak and MemoryLimit are in bytes.
	MemoryPeak  uint64 `json:"memoryPeakBytes,omitempty"`
	MemoryLimit uint64 `json:"memoryLimitBytes,omitempty"`
}

// owedInfo is an effect that is owed, now or later.
type owedInfo struct {
	Effect    string     `json:"effect"`
	NotBefore *time.Time `json:"notBefore,omitempty"`
}

// sandboxInfo is the info of a sandbox.
type sandboxInfo struct {
	PID            int                          `json:"pid"` // of the holder; 0 if it has none
	RuntimeHandler string                       `json:"runtimeHandler"`
	CgroupPath     string                       `json:"cgroupPath"`
	NetNS          string                       `json:"netns"` // empty in the node's network
	Owed           []owedInfo                   `json:"owed"`
	Damage         string                       `json:"damage,omitempty"`
	Config         *runtimeapi.PodSandboxConfig `json:"config"`
	RuntimeSpec    sandboxSpec                  `json:"runtimeSpec"`
	State          json.RawMessage              `json:"state"`
}

// sandboxSpec has what scripts look up in the spec of a pause container, which there is
// none of.
type sandboxSpec struct {
	Hostname    string            `json:"hostname,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Linux       struct {
		Namespaces  []namespaceInfo `json:"namespaces"`
		CgroupsPath string          `json:"cgroupsPath"`
	} `json:"linux"`
}

type namespaceInfo struct {
	Type string `json:"type"`
	Path string `json:"path"`
}

// imageInfo is the info of an image.
type imageInfo struct {
	Labels     map[string]string `json:"labels,omitempty"`
	StopSignal string            `json:"stopSignal,omitempty"`
	ImageSpec  json.RawMessage   `json:"imageSpec,omitempty"`
}

// containerInfo returns the info of a container. The runtime spec is the only part of a
// status that is read from the disk; it is omitted once it is deleted.
func (s *Parts) containerInfo(x *projections.Container) (map[string]string, error) {
	state, err := redact.State(x.State)
	if err != nil {
		return nil, err
	}
	config := x.Config()
	redact.Environment(config)
	info := containerInfo{
		SandboxID: string(x.State.Sandbox), PID: x.State.Creation.Process.PID, Removing: x.State.Phase == container.Removing,
		Privileged: config.GetLinux().GetSecurityContext().GetPrivileged(), RuntimeHandler: x.State.Request.Handler,
		Image: shownImage(x).GetImage(), ImageID: x.State.Request.Image, LogPath: x.State.Request.LogPath,
		CgroupPath: s.Places.ContainerCgroup(x.State), Owed: owed(container.Owed(x.State)), Damage: x.Damage, Config: config, State: state,
	}
	if pod := s.Views.Sandbox(x.State.Sandbox); pod != nil {
		info.NetNS = s.Places.Namespaces(pod.State)["network"]
	}
	if exit := x.State.Run.Exit; !exit.At.IsZero() {
		info.Exit = new(exitInfo(exit))
	}
	spec, err := s.Specs.RuntimeSpec(x.State.ID)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the runtime spec of container %s: %w", x.State.ID, err)
	}
	if err == nil {
		if info.RuntimeSpec, err = redact.RuntimeSpec(spec); err != nil {
			return nil, err
		}
	}
	return infoOf(info)
}

// sandboxInfo returns the info of a sandbox.
func (s *Parts) sandboxInfo(x *projections.Sandbox) (map[string]string, error) {
	state, err := redact.State(x.State)
	if err != nil {
		return nil, err
	}
	config := x.Config()
	namespaces, cgroup := s.Places.Namespaces(x.State), s.Places.SandboxCgroup(x.State)
	info := sandboxInfo{
		PID: x.State.Holder.PID, RuntimeHandler: x.State.Handler, CgroupPath: cgroup, NetNS: namespaces["network"],
		Owed: owed(sandbox.Owed(x.State)), Damage: x.Damage, Config: config, State: state,
		RuntimeSpec: sandboxSpec{Hostname: config.GetHostname(), Annotations: config.GetAnnotations()},
	}
	for _, kind := range slices.Sorted(maps.Keys(namespaces)) {
		info.RuntimeSpec.Linux.Namespaces = append(info.RuntimeSpec.Linux.Namespaces, namespaceInfo{kind, namespaces[kind]})
	}
	info.RuntimeSpec.Linux.CgroupsPath = cgroup
	return infoOf(info)
}

// infoOfImage returns the info of an image.
func infoOfImage(i *Image) (map[string]string, error) {
	info := imageInfo{Labels: i.Labels, StopSignal: i.StopSignal}
	if i.Config != nil {
		spec, err := json.Marshal(i.Config)
		if err == nil {
			info.ImageSpec, err = redact.ImageSpec(spec)
		}
		if err != nil {
			return nil, fmt.Errorf("encode the configuration of image %s: %w", i.ID, err)
		}
	}
	return infoOf(info)
}

// infoOf encodes an info. Tools show one that is a JSON object as such.
func infoOf(info any) (map[string]string, error) {
	encoded, err := json.Marshal(info)
	if err != nil {
		return nil, fmt.Errorf("encode the info: %w", err)
	}
	return map[string]string{"info": string(encoded)}, nil
}

// owed shows effects that are owed.
func owed[F interface {
	Key() string
	NotBefore() time.Time
}](effects []F) []owedInfo {
	all := []owedInfo{}
	for _, f := range effects {
		shown := owedInfo{Effect: f.Key()}
		if at := f.NotBefore(); !at.IsZero() {
			shown.NotBefore = &at
		}
		all = append(all, shown)
	}
	return all
}
