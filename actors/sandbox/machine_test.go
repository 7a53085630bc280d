package sandbox_test

import (
	"testing"

	"github.com/stele-runtime/stele/actors/machinetest"
	"github.com/stele-runtime/stele/actors/sandbox"
)

var underTest = machinetest.Machine[sandbox.State, sandbox.Command, sandbox.Event, sandbox.Effect]{
	Decide:   sandbox.Decide,
	Evolve:   sandbox.Evolve,
	Owed:     sandbox.Owed,
	Failed:   sandbox.Effect.Failed,
	Settling: func() machinetest.Settling[sandbox.Event] { return &sandbox.Settling{} },
	Describe: describe,
	Answer:   answer,
	Commands: []sandbox.Command{
		sandbox.Run{}, sandbox.AddContainer{}, sandbox.AdoptContainer{}, sandbox.ForgetContainer{}, sandbox.Stop{}, sandbox.Remove{},
		sandbox.UpdateResources{}, sandbox.HolderExited{}, sandbox.NodeRebooted{},
		sandbox.PrepareSandboxDone{}, sandbox.AttachNetworkDone{}, sandbox.StartHolderDone{},
		sandbox.StopContainerDone{}, sandbox.RemoveContainerDone{}, sandbox.StopHolderDone{},
		sandbox.DetachNetworkDone{}, sandbox.ReleaseSandboxDone{},
	},
	Events: []sandbox.Event{
		sandbox.SandboxRequested{}, sandbox.SandboxPrepared{}, sandbox.SandboxPrepareFailed{},
		sandbox.NetworkAttached{}, sandbox.HostPortsMapped{}, sandbox.NetworkRequestsUnserved{}, sandbox.NetworkAttachFailed{}, sandbox.HolderStarted{}, sandbox.HolderStartFailed{},
		sandbox.SandboxReady{}, sandbox.SandboxFailed{}, sandbox.ResourcesUpdated{}, sandbox.ContainerAdded{}, sandbox.ContainerForgotten{},
		sandbox.StopRequested{}, sandbox.RemoveRequested{}, sandbox.SandboxLost{}, sandbox.HolderEnded{},
		sandbox.ContainerStopped{}, sandbox.ContainerStopFailed{}, sandbox.ContainerRemoveFailed{},
		sandbox.HolderStopped{}, sandbox.HolderStopFailed{}, sandbox.NetworkDetached{}, sandbox.NetworkDetachFailed{},
		sandbox.SandboxStopped{}, sandbox.SandboxReleased{}, sandbox.SandboxReleaseFailed{}, sandbox.SandboxRemoved{},
	},
	Effects: []sandbox.Effect{
		sandbox.PrepareSandbox{}, sandbox.AttachNetwork{}, sandbox.StartHolder{},
		sandbox.StopContainer{}, sandbox.RemoveContainer{}, sandbox.StopHolder{},
		sandbox.DetachNetwork{}, sandbox.ReleaseSandbox{},
	},
}

func describe(s sandbox.State) string {
	if s.Phase == sandbox.Absent {
		return "absent"
	}
	return string(s.Phase)
}

func answer(c sandbox.Command) machinetest.Answer[sandbox.State, sandbox.Event] {
	switch c.(type) {
	case sandbox.Run:
		return sandbox.RunAnswer
	case sandbox.Stop:
		return sandbox.StopAnswer
	case sandbox.Remove:
		return sandbox.RemoveAnswer
	case sandbox.UpdateResources:
		return sandbox.UpdateAnswer
	}
	return nil
}

func TestTraces(t *testing.T) { machinetest.Traces(t, underTest) }

func TestOutcomes(t *testing.T) { machinetest.Outcomes(t, underTest) }
