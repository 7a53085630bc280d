package container

import (
	"github.com/stele-runtime/stele/actors/backoff"
	"github.com/stele-runtime/stele/actors/settled"
)

// Settling follows the stream of one container and finds the events that leave no trace in
// its State, now and whatever follows: a container that lives for years has no use for
// every exec that began and ended. The zero value has seen no event.
type Settling struct {
	stream settled.Stream
	// updates has the updates, by number, that have a trace.
	updates map[uint64]update
	// asked is the newest update, inForce the newest that succeeded.
	asked, inForce uint64
}

// Next takes the stream's next event that is left, with its version, and returns the versions
// of the events that leave no trace from now on, perhaps its own among them. They can be
// removed together, or in order.
func (x *Settling) Next(version uint64, e Event) []uint64 {
	if x.updates == nil {
		x.updates = map[uint64]update{}
	}
	switch e := e.(type) {
	case ContainerRequested: // A life begins. What came before is nothing that Decide leads to.
		*x = Settling{updates: map[uint64]update{}}
	case ExecRequested:
		x.stream.Begins("exec "+string(e.Exec), "", version)
	case ExecEnded:
		return x.stream.Ends("exec "+string(e.Exec), "", version)
	case ExecFailed:
		return x.stream.Ends("exec "+string(e.Exec), "", version)

	// A stop that was withdrawn is as if it had not been; the signal was sent for all stops
	// at that time.
	case StopRequested:
		x.stream.Begins("stop", e.Request, version)
	case StopSignalled, StopSignalFailed:
		return x.stream.Within("stop", version)
	case StopWithdrawn:
		return x.stream.Ends("stop", e.Request, version)

	// Repetitions make failed effects due at once, and nothing else.
	case KillRequested:
		return x.stream.Latest("kill", 1, version, version)
	case RemoveRequested, ContainerSuperseded:
		return x.stream.Latest("remove", 1, version, version)
	case KillFailed:
		return x.stream.Latest("kill failed", backoff.Counted, version, version)
	case RuntimeDeleteFailed:
		return x.stream.Latest("delete failed", backoff.Counted, version, version)
	case RuntimeDeleted:
		x.stream.Anew("delete failed")
	case RootfsReleaseFailed:
		return x.stream.Latest("release failed", backoff.Counted, version, version)
	case RootfsReleased:
		x.stream.Anew("release failed")

	case ResourcesUpdateRequested:
		return x.updateRequested(e.Update, version)
	case ResourcesUpdated:
		return x.updateEnded(e.Update, version, true)
	case ResourcesUpdateFailed:
		return x.updateEnded(e.Update, version, false)

	case LogReopenRequested:
		return x.stream.Latest("reopen", 0, version, version)
	case LogReopened:
		return x.stream.Latest("reopened", 0, e.Reopen, version)
	case LogReopenFailed:
		return x.stream.Latest("reopened", 0, e.Reopen, version)
	case OutputLost:
		return x.stream.Latest("lost", 0, version, version)
	case SyscallsBlocked:
		if !e.Stop { // It is why the container ended.
			return x.stream.Latest("blocked", 0, version, version)
		}

	case RootfsPrepared, RootfsPrepareFailed, ContainerCreated, ContainerCreateFailed, ContainerFailed,
		StartRequested, ContainerStarted, ContainerStartFailed, ContainerExited, Killed, ContainerRemoved:
	}
	return nil
}

// update is the events of one change of the limits that have a trace, 0 for none.
type update struct {
	request, end uint64
	succeeded    bool
}

func (x *Settling) updateRequested(number, version uint64) []uint64 {
	before := x.asked
	x.asked = number
	x.updates[number] = update{request: version}
	return x.settleUpdate(before)
}

func (x *Settling) updateEnded(number, version uint64, succeeded bool) []uint64 {
	x.updates[number] = update{x.updates[number].request, version, succeeded}
	before := x.inForce
	if succeeded {
		x.inForce = number
	}
	void := x.settleUpdate(number)
	if before != number {
		void = append(x.settleUpdate(before), void...)
	}
	return void
}

// settleUpdate returns what leaves no trace of an update that has ended: its request, once there
// is a newer one, which says how many there were; its end, unless its limits are in force.
func (x *Settling) settleUpdate(number uint64) (void []uint64) {
	u := x.updates[number]
	if u.end == 0 || number == x.asked {
		return nil
	}
	if u.request > 0 {
		void = append(void, u.request)
	}
	if u.succeeded && number == x.inForce {
		x.updates[number] = update{end: u.end, succeeded: true}
		return void
	}
	delete(x.updates, number)
	return append(void, u.end)
}
