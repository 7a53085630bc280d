package container_test

import (
	"testing"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/machinetest"
)

var underTest = machinetest.Machine[container.State, container.Command, container.Event, container.Effect]{
	Decide:   container.Decide,
	Evolve:   container.Evolve,
	Owed:     container.Owed,
	Failed:   container.Effect.Failed,
	Settling: func() machinetest.Settling[container.Event] { return &container.Settling{} },
	Describe: describe,
	Answer:   answer,
	Commands: []container.Command{
		container.Create{}, container.Start{}, container.Stop{}, container.WithdrawStop{}, container.Remove{},
		container.RunExec{}, container.UpdateResources{}, container.ReopenLog{}, container.RecordExit{}, container.ReportLoss{}, container.ReportBlocked{}, container.NodeRebooted{}, container.CallersLost{},
		container.PrepareRootfsDone{}, container.CreateRuntimeDone{}, container.StartRuntimeDone{},
		container.SignalStopDone{}, container.AwaitGraceDone{}, container.KillDone{}, container.ExecuteDone{},
		container.UpdateRuntimeDone{}, container.RotateLogDone{}, container.DeleteRuntimeDone{}, container.ReleaseRootfsDone{},
	},
	Events: []container.Event{
		container.ContainerRequested{}, container.RootfsPrepared{}, container.RootfsPrepareFailed{},
		container.ContainerCreated{}, container.ContainerCreateFailed{}, container.ContainerFailed{},
		container.StartRequested{}, container.ContainerStarted{}, container.ContainerStartFailed{},
		container.StopRequested{}, container.StopWithdrawn{}, container.StopSignalled{}, container.StopSignalFailed{},
		container.KillRequested{}, container.Killed{}, container.KillFailed{}, container.ContainerExited{},
		container.ExecRequested{}, container.ExecEnded{}, container.ExecFailed{},
		container.ResourcesUpdateRequested{}, container.ResourcesUpdated{}, container.ResourcesUpdateFailed{},
		container.LogReopenRequested{}, container.LogReopened{}, container.LogReopenFailed{}, container.OutputLost{}, container.SyscallsBlocked{},
		container.ContainerSuperseded{}, container.RemoveRequested{}, container.RuntimeDeleted{}, container.RuntimeDeleteFailed{},
		container.RootfsReleased{}, container.RootfsReleaseFailed{}, container.ContainerRemoved{},
	},
	Effects: []container.Effect{
		container.PrepareRootfs{}, container.CreateRuntime{}, container.StartRuntime{},
		container.SignalStop{}, container.AwaitGrace{}, container.Kill{}, container.Execute{},
		container.UpdateRuntime{}, container.RotateLog{}, container.DeleteRuntime{}, container.ReleaseRootfs{},
	},
}

// describe includes the exit that the kubelet is told.
func describe(s container.State) string {
	switch {
	case s.Phase == container.Absent:
		return "absent"
	case s.Phase == container.Exited && s.SeccompKilled():
		return "exited, killed for its system calls (" + machinetest.Describe(s.Run.Exit) + ")"
	case s.Phase == container.Exited:
		return "exited (" + machinetest.Describe(s.Run.Exit) + ")"
	}
	return string(s.Phase)
}

func answer(c container.Command) machinetest.Answer[container.State, container.Event] {
	switch c := c.(type) {
	case container.Create:
		return container.CreateAnswer
	case container.Start:
		return container.StartAnswer
	case container.Stop:
		return container.StopAnswer
	case container.Remove:
		return container.RemoveAnswer
	case container.RunExec:
		return container.ExecAnswer(c.Exec)
	case container.UpdateResources:
		return container.UpdateAnswer()
	case container.ReopenLog:
		return container.ReopenAnswer
	}
	return nil
}

func TestTraces(t *testing.T) { machinetest.Traces(t, underTest) }

func TestOutcomes(t *testing.T) { machinetest.Outcomes(t, underTest) }
