package page

import (
	"fmt"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/timeline"
)

// The kinds of marks; each has a shape in web/shapes.js. "event" is what has none of its own.

func ofNode(m timeline.Moment) string {
	switch m.Event {
	case "NodeRebooted":
		return "reboot"
	case "DaemonStarted":
		if m.Bad {
			return "daemon crashed"
		}
		return "daemon"
	case "DaemonStopped":
		return "daemon"
	case "MonitorStarted":
		return "monitor"
	case "MonitorLost":
		return "monitor lost"
	}
	return failedOr(m, "event")
}

func ofPod(m timeline.Moment) string {
	switch m.Event {
	case "SandboxReady":
		return "started"
	case "SandboxLost":
		return "lost"
	}
	return failedOr(m, "event")
}

func ofImage(m timeline.Moment) string { return failedOr(m, "event") }

func ofContainer(c *timeline.Container, m timeline.Moment) string {
	switch m.Event {
	case "ContainerStarted":
		return "started"
	case "KillRequested":
		// The kill itself and the end follow, and say more.
		return "event"
	case "Killed":
		return "killed"
	case "ContainerExited":
		return ofExit(c)
	}
	return failedOr(m, "event")
}

func ofExit(c *timeline.Container) string {
	x := c.State.Run.Exit
	switch {
	case x.OOMKilled:
		return "oom"
	case x.Unknown != "":
		return "lost"
	case x.Code == 0:
		return "completed"
	case c.Asked():
		return "ended"
	}
	return "exited"
}

func failedOr(m timeline.Moment, kind string) string {
	if m.Bad {
		return "failed"
	}
	return kind
}

// trouble says how much something needs a look.
type trouble int

const (
	fine trouble = iota
	// slow: its start took long.
	slow
	// waits: a start or an end that is not done.
	waits
	// earlier: an attempt before this one failed or died.
	earlier
	// broken: it failed, died or was lost, and nobody had asked for that.
	broken
)

func troubleOfPod(p *timeline.Pod) trouble {
	switch {
	case p.State.Failure.Failed() || len(p.State.Retries) > 0:
		return broken
	case p.State.Phase == sandbox.Creating:
		return waits
	}
	return fine
}

func troubleOf(c *timeline.Container) trouble {
	s := c.State
	switch {
	case s.Failure.Failed() || len(s.Retries) > 0:
		return broken
	case s.Run.ExitSeen:
		switch ofExit(c) {
		case "oom", "lost", "exited":
			return broken
		}
	case s.Phase == container.Creating || s.Phase == container.Starting:
		return waits
	}
	return fine
}

func troubleOfImage(i *timeline.Image) trouble {
	if n := len(i.Done); n > 0 && i.Done[n-1].Reason != "" {
		return broken
	}
	return fine
}

func podSays(p *timeline.Pod) string {
	switch s := p.State; {
	case s.Phase == sandbox.Absent:
		return "began before"
	case s.Failure.Failed() && (s.Phase == sandbox.Failed || s.Phase == sandbox.Unwinding):
		return "not created"
	case s.Failure.Failed():
		return "lost"
	case len(s.Retries) > 0:
		return string(s.Phase) + ", owed"
	}
	return string(p.State.Phase)
}

func containerSays(c *timeline.Container) string {
	s := c.State
	switch {
	case s.Phase == container.Absent:
		return "began before"
	case s.Failure.Failed() && s.Run.StartedAt.IsZero() && s.Creation.Process.PID == 0:
		return "not created"
	case s.Failure.Failed():
		return "not started"
	case !s.Run.ExitSeen:
		return string(s.Phase)
	case s.Run.Exit.OOMKilled:
		return "out of memory"
	case s.Run.Exit.Unknown != "":
		return "end unknown"
	case s.Run.Exit.Code == 0:
		return "completed"
	case c.Asked():
		return fmt.Sprintf("stopped, code %d", s.Run.Exit.Code)
	}
	return fmt.Sprintf("exit code %d", s.Run.Exit.Code)
}
