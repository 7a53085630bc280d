package container

import "github.com/stele-runtime/stele/actors/fault"

// decideRebooted ends what a reboot ended: no process is left. What the container
// has on the disk stays, and so does what is owed.
func decideRebooted(s State, c NodeRebooted) []Event {
	const reason = "the node was rebooted"
	switch s.Phase {
	case Creating:
		return []Event{ContainerCreateFailed{*fault.New(fault.Interrupted, "create container", string(s.ID), reason)}}
	case Starting:
		if s.Run.ExitSeen {
			return []Event{ContainerStarted{At: s.Run.Exit.At}}
		}
		// The exit comes first, so that it counts: the program may have run.
		return []Event{
			ContainerExited{Unknown(reason, c.At)},
			ContainerStartFailed{*fault.New(fault.Interrupted, "start container", string(s.ID), reason), c.At},
		}
	case Created, Running:
		return []Event{ContainerExited{Unknown(reason, c.At)}}
	case Exited:
		// The init that a failed start left waiting.
		if !s.Run.ExitSeen {
			return []Event{ContainerExited{Unknown(reason, c.At)}}
		}
	case Absent, Unwinding, Failed, Removing, Removed:
	}
	return nil
}
