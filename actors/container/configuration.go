package container

import "time"

// Request is what CreateContainer asked for. It never changes.
type Request struct {
	At      time.Time
	Handler string
	// Config and SandboxConfig are the CRI's ContainerConfig and the
	// PodSandboxConfig that came with it, protobuf-encoded. The machine hands
	// them on without reading them.
	Config, SandboxConfig []byte
	// ConfigDigest tells a repeated request from a different one.
	ConfigDigest string
	// Image is the id of the image that the root file system is made from.
	Image string
	// LogPath is the log file on the node; empty if output is dropped.
	LogPath string
	// StopSignal is the signal that Stop begins with, as the CRI or the image
	// names it ("SIGTERM" or a number).
	StopSignal string
}

// Config returns the configuration in force: a ContainerConfig, and the
// LinuxContainerResources that replace its own unless they are empty, both
// protobuf-encoded. Effects and projections read it only here.
//
// The resources replace the others whole, because protobuf could only merge them: limits
// of huge pages would be listed twice, and keys of cgroup v2 could not be taken away.
func Config(s State) (config, resources []byte) { return s.Request.Config, s.Resources.InForce }
