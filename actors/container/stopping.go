package container

import "time"

// By is who asked for a container's end or removal; empty in what older versions recorded.
type By string

// Who asks.
const (
	// ByCall: StopContainer or RemoveContainer.
	ByCall By = "call"
	// ByPod: the pod's stop or removal, or what was lost with it.
	ByPod By = "pod"
	// BySeccomp: the pod wants containers ended that make forbidden system calls.
	BySeccomp By = "seccomp"
	// ByNode: a start of the daemon found a container that its pod does not know.
	ByNode By = "node"
)

// PodRequest is the Request of a Stop on behalf of the pod.
const PodRequest = "sandbox"

// RequestedBy says whose a Stop is, by its Request.
func RequestedBy(request string) By {
	if request == PodRequest {
		return ByPod
	}
	return ByCall
}

// Stopping is who wants the container to end, and what was done about it so far.
type Stopping struct {
	// Requests maps each stop request that was not withdrawn to the end of its grace
	// period.
	Requests map[string]time.Time `json:",omitempty"`
	// Signalled: the stop signal was sent for the present Requests.
	Signalled bool `json:",omitempty"`
	// Killing: a grace period ended; the container is owed SIGKILL until it exits.
	Killing bool `json:",omitempty"`
	// KillSent: SIGKILL was delivered; only the exit is awaited.
	KillSent bool `json:",omitempty"`
}

// stoppable reports whether a stop can still change anything.
func (s State) stoppable() bool {
	return !s.Run.ExitSeen && (s.Phase == Creating || s.Phase == Created || s.Phase == Starting || s.Phase == Running)
}

// patience returns the end of the earliest grace period.
func (x Stopping) patience() time.Time {
	_, earliest := x.impatient()
	return earliest
}

// impatient returns the request with the earliest end of its grace period, and that end.
func (x Stopping) impatient() (request string, at time.Time) {
	for r, end := range x.Requests {
		if at.IsZero() || end.Before(at) || end.Equal(at) && r < request {
			request, at = r, end
		}
	}
	return request, at
}

func decideStop(s State, c Stop) []Event {
	kill := KillRequested{By: RequestedBy(c.Request)}
	if !s.stoppable() && !s.othersLeft() {
		return nil
	}
	if s.Stopping.Killing || s.othersLeft() {
		// A caller who repeats the request wants a failed kill retried now.
		if len(s.Retries) > 0 {
			return []Event{kill}
		}
		return nil
	}
	if c.Grace <= 0 {
		return []Event{kill}
	}
	// A container that was never started needs no orderly end. One that is being
	// created is killed as soon as it exists: its pod may be ending, and nothing must
	// come to life in it.
	if s.Phase == Creating || s.Phase == Created {
		return []Event{StopRequested{c.Request, c.At}, kill}
	}
	return []Event{StopRequested{c.Request, c.At.Add(c.Grace)}}
}

func decideWithdraw(s State, c WithdrawStop) []Event {
	if _, asked := s.Stopping.Requests[c.Request]; !asked || s.Stopping.Killing || !s.stoppable() {
		return nil
	}
	return []Event{StopWithdrawn(c)}
}

func decideSignalled(s State, c SignalStopDone) []Event {
	if c.Err != nil {
		return []Event{StopSignalFailed{failure(s, "signal container", c.Err)}}
	}
	return []Event{StopSignalled{}}
}

func decideGraceOver(s State, c AwaitGraceDone) []Event {
	// The caller with this deadline may have withdrawn meanwhile.
	request, patience := s.Stopping.impatient()
	withdrawn := len(s.Stopping.Requests) == 0 || patience.After(c.Deadline)
	if withdrawn || s.Stopping.Killing || !s.stoppable() {
		return nil
	}
	return []Event{KillRequested{By: RequestedBy(request), GraceOver: true}}
}

func decideKilled(s State, c KillDone) []Event {
	if c.Err != nil {
		return []Event{KillFailed{failure(s, "kill container", c.Err), s.Retries.Next(Kill{}.Key(), c.At)}}
	}
	return []Event{Killed{}}
}

func (x *Stopping) requested(e StopRequested) {
	if x.Requests == nil {
		x.Requests = map[string]time.Time{}
	}
	x.Requests[e.Request] = e.Deadline
}

func (x *Stopping) withdrawn(e StopWithdrawn) {
	delete(x.Requests, e.Request)
	// A later stop is a new one and sends the signal again.
	x.Signalled = x.Signalled && len(x.Requests) > 0
}

func owedStopping(s State) []Effect {
	switch {
	case s.Run.ExitSeen, s.Stopping.KillSent:
		return nil
	case s.Stopping.Killing:
		return []Effect{Kill{s.spec(), s.retry(Kill{})}}
	case len(s.Stopping.Requests) == 0:
		return nil
	}
	owed := []Effect{AwaitGrace{Deadline: s.Stopping.patience()}}
	if !s.Stopping.Signalled && s.Phase != Starting {
		owed = append(owed, SignalStop{Spec: s.spec(), Signal: s.Request.StopSignal})
	}
	return owed
}

// othersLeft reports whether a process may be left although the container's init has ended,
// or counts as ended. Whoever stops the container waits for it. While the start is under way
// the kill is not owed yet.
func (s State) othersLeft() bool {
	if s.Phase == Starting {
		return s.Run.ExitSeen && s.Creation.SharedPIDs && !s.Stopping.KillSent
	}
	return s.Phase == Exited && len(owedKill(s)) > 0
}

// owedKill is for a container that counts as exited although a process of it may be
// left: its start failed, and its init would wait for ever; or its init ended, and
// others, which share its PID namespace, live on beside the next attempt.
func owedKill(s State) []Effect {
	startFailed := Alive(s) && s.Stopping.Killing
	othersLeft := s.Run.ExitSeen && s.Creation.SharedPIDs
	if s.Stopping.KillSent || !startFailed && !othersLeft {
		return nil
	}
	return []Effect{Kill{s.spec(), s.retry(Kill{})}}
}
