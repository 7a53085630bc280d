// Package host is the machine of the node's own stream: what happened to the
// daemon, the monitor and the configuration rather than to a pod. It owes
// nothing; the node's reactions to these facts are commands to other machines.
package host

import "time"

// State is what later decisions need of the node's history.
type State struct {
	// BootID is the kernel's boot id at the last start of the daemon.
	BootID string
	// Running: the last daemon has not said that it stopped.
	Running bool
}

// Command tells the machine what the node saw.
//
//sumtype:decl
type Command interface{ command() }

// StartDaemon says that the daemon is starting.
type StartDaemon struct {
	BootID  string
	Version string
	PID     int
	At      time.Time
}

// StopDaemon says that the daemon is stopping in good order.
type StopDaemon struct{ At time.Time }

// ReportMonitor says that a monitor was started or met.
type ReportMonitor struct {
	PID     int
	Version string
}

// ReportMonitorLoss says that the monitor went away.
type ReportMonitorLoss struct{ Reason string }

// ReportNetwork says that the CNI configuration was read anew.
type ReportNetwork struct {
	// Network is the name of the default network; empty when there is none.
	Network string
	// Problem is why there is none.
	Problem string
}

// ReportQuarantine says that a stream could not be replayed and is left alone.
type ReportQuarantine struct{ Stream, Reason string }

func (StartDaemon) command()       {}
func (StopDaemon) command()        {}
func (ReportMonitor) command()     {}
func (ReportMonitorLoss) command() {}
func (ReportNetwork) command()     {}
func (ReportQuarantine) command()  {}

// Event is a fact in the life of the node.
//
//sumtype:decl
type Event interface{ event() }

// DaemonStarted: a daemon began to serve this log.
type DaemonStarted struct {
	BootID  string
	Version string
	PID     int
	At      time.Time
	// Crashed: the daemon before it did not stop in good order.
	Crashed bool
}

// DaemonStopped: the daemon stopped in good order.
type DaemonStopped struct{ At time.Time }

// NodeRebooted: the kernel's boot id is another than the last daemon's. Every
// process, mount and namespace of before is gone.
type NodeRebooted struct{ Before, Now string }

// MonitorStarted: a monitor was started or met.
type MonitorStarted struct {
	PID     int
	Version string
}

// MonitorLost: the monitor went away.
type MonitorLost struct{ Reason string }

// NetworkConfigured: the pod network is the one named.
type NetworkConfigured struct{ Network string }

// NetworkUnconfigured: there is no usable pod network.
type NetworkUnconfigured struct{ Problem string }

// StreamQuarantined: a stream could not be replayed and is left alone.
type StreamQuarantined struct{ Stream, Reason string }

func (DaemonStarted) event()       {}
func (DaemonStopped) event()       {}
func (NodeRebooted) event()        {}
func (MonitorStarted) event()      {}
func (MonitorLost) event()         {}
func (NetworkConfigured) event()   {}
func (NetworkUnconfigured) event() {}
func (StreamQuarantined) event()   {}

// Decide says which facts follow from a command.
func Decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case StartDaemon:
		var events []Event
		if s.BootID != "" && s.BootID != c.BootID {
			events = append(events, NodeRebooted{Before: s.BootID, Now: c.BootID})
		}
		return append(events, DaemonStarted{
			BootID: c.BootID, Version: c.Version, PID: c.PID, At: c.At, Crashed: s.Running,
		}), nil
	case StopDaemon:
		return []Event{DaemonStopped(c)}, nil
	case ReportMonitor:
		return []Event{MonitorStarted(c)}, nil
	case ReportMonitorLoss:
		return []Event{MonitorLost(c)}, nil
	case ReportNetwork:
		if c.Network == "" {
			return []Event{NetworkUnconfigured{c.Problem}}, nil
		}
		return []Event{NetworkConfigured{c.Network}}, nil
	case ReportQuarantine:
		return []Event{StreamQuarantined(c)}, nil
	}
	return nil, nil
}

// Evolve returns the state after a fact.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case DaemonStarted:
		s.BootID, s.Running = e.BootID, true
	case DaemonStopped:
		s.Running = false
	case NodeRebooted, MonitorStarted, MonitorLost, NetworkConfigured, NetworkUnconfigured, StreamQuarantined:
	}
	return s
}
