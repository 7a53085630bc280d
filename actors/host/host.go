// Package host is the machine of the node's own stream: what happened to the daemon,
// the monitor and the configuration rather than to a pod. It owes nothing; the node
// reacts to these facts with commands to other machines.
//
// It does no I/O and reads no clock. It must not know protoactor, the log, the CRI,
// any driver or any other machine.
package host

import "time"

// State is what later decisions need to know of the node's past.
type State struct {
	// BootID is the kernel's boot id at the last start of the daemon.
	BootID string
	// Running: the last daemon did not report that it stopped.
	Running bool
	// PodCIDR are the ranges of the pods' addresses, as the kubelet said last; empty if it
	// did not say.
	PodCIDR string
}

// Command is a report of the daemon.
//
//sumtype:decl
type Command interface{ command() }

// StartDaemon reports that the daemon is starting.
type StartDaemon struct {
	BootID  string
	Version string
	PID     int
	At      time.Time
}

// StopDaemon reports that the daemon is shutting down in order.
type StopDaemon struct{ At time.Time }

// ReportMonitor reports that the daemon started a monitor, or found one running.
type ReportMonitor struct {
	PID     int
	Version string
}

// ReportMonitorLoss reports that the monitor is gone.
type ReportMonitorLoss struct{ Reason string }

// ReportNetwork reports that the CNI configuration was read again.
type ReportNetwork struct {
	// Network is the name of the default network; empty if there is none.
	Network string
	// Problem is why there is none.
	Problem string
}

// ReportPodCIDR reports the ranges that pods have addresses from, separated by commas
// (UpdateRuntimeConfig).
type ReportPodCIDR struct{ CIDR string }

// ReportQuarantine reports that a stream could not be replayed and is left alone.
type ReportQuarantine struct{ Stream, Reason string }

// ReportUnconfined says that a security module of the kernel is on, AppArmor or SELinux, and
// that containers run without its profiles.
type ReportUnconfined struct{ Module string }

// ReportSalvage says that nothing is left of what a quarantined stream was about.
type ReportSalvage struct{ Stream string }

// ReportLogReplaced says what took the place of a damaged event log: LogReplaced.
type ReportLogReplaced LogReplaced

func (ReportLogReplaced) command() {}
func (ReportSalvage) command()     {}
func (ReportPodCIDR) command()     {}
func (ReportUnconfined) command()  {}
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

// DaemonStarted: the daemon opened this log and is starting.
type DaemonStarted struct {
	BootID  string
	Version string
	PID     int
	At      time.Time
	// Crashed: the daemon before it did not report that it stopped.
	Crashed bool
}

// DaemonStopped: the daemon is shutting down in order.
type DaemonStopped struct{ At time.Time }

// NodeRebooted: the daemon found another boot id than the last daemon did. Every
// process, mount and namespace from before is gone.
type NodeRebooted struct{ Before, Now string }

// MonitorStarted: the daemon started a monitor, or found one running.
type MonitorStarted struct {
	PID     int
	Version string
}

// MonitorLost: the daemon saw the monitor end.
type MonitorLost struct{ Reason string }

// NetworkConfigured: the daemon read the CNI configuration; new pods get this network.
type NetworkConfigured struct{ Network string }

// NetworkUnconfigured: the daemon found no usable CNI configuration.
type NetworkUnconfigured struct{ Problem string }

// PodCIDRChanged: the kubelet said that pods have addresses from other ranges than before. A
// configured template of the CNI configuration is filled with them.
type PodCIDRChanged struct{ CIDR string }

// StreamQuarantined: the node could not replay a stream, or its machine kept
// panicking; the stream is left alone.
type StreamQuarantined struct{ Stream, Reason string }

// ContainersUnconfined: containers run without the profiles of a security module that is on,
// AppArmor or SELinux. Each start of the daemon says so.
type ContainersUnconfined struct{ Module string }

// StreamClosed: nothing is left on the node of what a quarantined stream was about, as its
// actor learned. The stream will not say so itself.
type StreamClosed struct{ Stream string }

// LogReplaced: the event log was damaged, or gone, when the daemon started. The log that has
// this event took its place; it is the first that is not from a backup.
type LogReplaced struct {
	At time.Time
	// Reason is what was wrong with the log.
	Reason string
	// SetAside is where it is kept; empty if it was gone.
	SetAside string
	// Backup is the one that this log began with, empty if there was no good one, and
	// BackupUntil the time of its last record.
	Backup      string
	BackupUntil time.Time
	// Restored is how many pods and containers have the states that the state directory kept,
	// Outdated how many have those of the backup, and Unexplained how many are on the node and
	// nothing says what they are.
	Restored, Outdated, Unexplained int
	// BootID is the boot in which all of it was kept; empty if the node was rebooted since.
	BootID string
}

func (LogReplaced) event()          {}
func (StreamClosed) event()         {}
func (PodCIDRChanged) event()       {}
func (ContainersUnconfined) event() {}
func (DaemonStarted) event()        {}
func (DaemonStopped) event()        {}
func (NodeRebooted) event()         {}
func (MonitorStarted) event()       {}
func (MonitorLost) event()          {}
func (NetworkConfigured) event()    {}
func (NetworkUnconfigured) event()  {}
func (StreamQuarantined) event()    {}

// Decide returns the facts that follow from a command.
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
	case ReportPodCIDR:
		if c.CIDR == s.PodCIDR {
			return nil, nil
		}
		return []Event{PodCIDRChanged(c)}, nil
	case ReportQuarantine:
		return []Event{StreamQuarantined(c)}, nil
	case ReportUnconfined:
		return []Event{ContainersUnconfined(c)}, nil
	case ReportSalvage:
		return []Event{StreamClosed(c)}, nil
	case ReportLogReplaced:
		return []Event{LogReplaced(c)}, nil
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
	case PodCIDRChanged:
		s.PodCIDR = e.CIDR
	case LogReplaced:
		// An older daemon that skips it takes the next start for the first one in its boot, and
		// looks for leftovers in vain.
		if e.BootID != "" {
			s.BootID = e.BootID
		}
	case NodeRebooted, MonitorStarted, MonitorLost, NetworkConfigured, NetworkUnconfigured, StreamQuarantined, StreamClosed, ContainersUnconfined:
	}
	return s
}
