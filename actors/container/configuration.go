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

// Config returns the configuration in force, a protobuf-encoded ContainerConfig.
// Effects and projections read it only here.
//
// Nothing changes a configuration yet, so this is the requested one. An update
// (UpdateContainerResources, NRI) would keep a ContainerConfig with only the changed
// fields in the State, and Config would return the request followed by it: protobuf
// merges concatenated messages, so that later fields win and repeated fields append.
// The machine need not decode either, and a repeated CreateRuntime uses the update.
func Config(s State) []byte { return s.Request.Config }
