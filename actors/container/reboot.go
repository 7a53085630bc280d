package container

import "github.com/stele-runtime/stele/actors/fault"

// decideRebooted records what the reboot ended: no process is left. Files on the
// disk are, and so is what was owed.
func decideRebooted(s State, c NodeRebooted) []Event {
	const reason = "the node was rebooted"
	switch s.Phase {
	case Creating:
		return []Event{ContainerCreateFailed{*fault.New(fault.Interrupted, "create container", string(s.ID), reason)}}
	case Starting:
		if s.Run.ExitSeen {
			return []Event{ContainerStarted{At: s.Run.Exit.At}}
		}
		// The exit comes first, so that it is the one that counts: the program may
		// have run.
		return []Event{
			s.exitOf(Unknown(reason, c.At)),
			ContainerStartFailed{*fault.New(fault.Interrupted, "start container", string(s.ID), reason), c.At},
		}
	case Created, Running:
		return []Event{s.exitOf(Unknown(reason, c.At))}
	case Exited:
		// A failed start left an init waiting.
		if !s.Run.ExitSeen {
			return []Event{s.exitOf(Unknown(reason, c.At))}
		}
	case Absent, Unwinding, Failed, Removing, Removed:
	}
	return nil
}
