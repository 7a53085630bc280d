package host_test

import (
	"testing"

	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/machinetest"
)

type (
	state   = host.State
	command = host.Command
	event   = host.Event
)

var underTest = machinetest.Machine[state, command, event, machinetest.NoEffect]{
	Decide:   host.Decide,
	Evolve:   host.Evolve,
	Describe: describe,
	Answer:   func(command) machinetest.Answer[state, event] { return nil },
	Commands: []host.Command{
		host.StartDaemon{}, host.StopDaemon{}, host.ReportMonitor{}, host.ReportMonitorLoss{},
		host.ReportNetwork{}, host.ReportPodCIDR{}, host.ReportQuarantine{}, host.ReportSalvage{}, host.ReportUnconfined{},
		host.ReportLogReplaced{},
	},
	Events: []host.Event{
		host.DaemonStarted{}, host.DaemonStopped{}, host.NodeRebooted{}, host.MonitorStarted{}, host.MonitorLost{},
		host.NetworkConfigured{}, host.NetworkUnconfigured{}, host.PodCIDRChanged{}, host.StreamQuarantined{}, host.StreamClosed{}, host.ContainersUnconfined{},
		host.LogReplaced{},
	},
}

func describe(s host.State) string {
	if s.Running {
		return "running"
	}
	return "stopped"
}

func TestTraces(t *testing.T) { machinetest.Traces(t, underTest) }
