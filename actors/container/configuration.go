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
	// LogPath is the log file on the node; empty when output is dropped.
	LogPath string
	// StopSignal is the signal that Stop begins with, as the CRI or the image
	// names it ("SIGTERM" or a number).
	StopSignal string
}

// Config returns the configuration in force, a ContainerConfig in protobuf's
// encoding. Every effect has it from here, and so has whoever shows it.
//
// Nothing changes a configuration yet, so it is the requested one. An event that
// does (UpdateContainerResources, NRI) keeps a ContainerConfig with the changed
// fields alone in the State, and Config returns the request followed by it: the
// concatenation of two protobuf messages is their merge, in which the later one's
// fields win and repeated fields add up. The machine need not read either, and a
// repeated CreateRuntime gets the change.
func Config(s State) []byte { return s.Request.Config }
