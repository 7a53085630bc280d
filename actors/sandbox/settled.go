package sandbox

import (
	"github.com/stele-runtime/stele/actors/backoff"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/settled"
)

// Settling follows the stream of one sandbox and finds the events that leave no trace in its
// State, now and whatever follows: a pod that lives for years has no use for every
// container that it once had. The zero value has seen no event.
type Settling struct {
	stream settled.Stream
	// stopped: a container that is added from now on changes the sandbox's phase, too.
	stopped bool
}

// Next takes the stream's next event that is left, with its version, and returns the versions
// of the events that leave no trace from now on, perhaps its own among them. They can be
// removed together, or in order.
func (x *Settling) Next(version uint64, e Event) []uint64 {
	switch e := e.(type) {
	case SandboxRequested: // A life begins. What came before is nothing that Decide leads to.
		*x = Settling{}
	case ContainerAdded:
		x.stream.Begins(containerPart(e.Container), "", version)
		if x.stopped {
			x.stream.Begins(containerPart(e.Container), "its pod's phase", version)
		}
	case ContainerStopped:
		return x.stream.Within(containerPart(e.Container), version)
	case ContainerStopFailed:
		return x.containerFailed(e.Container, StopContainer{Container: e.Container}, version)
	case ContainerRemoveFailed:
		return x.containerFailed(e.Container, RemoveContainer{Container: e.Container}, version)
	case ContainerForgotten:
		x.stream.Anew(StopContainer{Container: e.Container}.Key())
		x.stream.Anew(RemoveContainer{Container: e.Container}.Key())
		return x.stream.Ends(containerPart(e.Container), "", version)

	case ResourcesUpdated:
		return x.stream.Latest("resources", 0, version, version)

	// Repetitions make failed effects due at once, and nothing else.
	case StopRequested:
		return x.stream.Latest("stop", 1, version, version)
	case RemoveRequested:
		return x.stream.Latest("remove", 1, version, version)
	case HolderStopFailed:
		return x.failed(StopHolder{}, version)
	case HolderStopped:
		x.stream.Anew(StopHolder{}.Key())
	case NetworkDetachFailed:
		return x.failed(DetachNetwork{}, version)
	case NetworkDetached:
		x.stream.Anew(DetachNetwork{}.Key())
	case SandboxReleaseFailed:
		return x.failed(ReleaseSandbox{}, version)
	case SandboxReleased:
		x.stream.Anew(ReleaseSandbox{}.Key())

	case SandboxStopped:
		x.stopped = true
	case SandboxPrepared, SandboxPrepareFailed, SandboxReady, SandboxFailed, SandboxLost, SandboxRemoved,
		NetworkAttached, HostPortsMapped, NetworkRequestsUnserved, NetworkAttachFailed,
		HolderStarted, HolderStartFailed, HolderEnded:
	}
	return nil
}

func containerPart(c id.Container) string { return "container " + string(c) }

// failed counts a failure. Those that are counted stay, and so does the last one.
func (x *Settling) failed(f Effect, version uint64) []uint64 {
	return x.stream.Latest(f.Key(), backoff.Counted, version, version)
}

func (x *Settling) containerFailed(c id.Container, f Effect, version uint64) []uint64 {
	if void := x.stream.Within(containerPart(c), version); void != nil {
		return void
	}
	void := x.failed(f, version)
	x.stream.Without(containerPart(c), void)
	return void
}
