package codec

import (
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	statepb "github.com/stele-runtime/stele/proto/state/v1"
)

// EncodeContainerState returns a container's state as a checkpoint keeps it.
func EncodeContainerState(s container.State) ([]byte, error) {
	request, process, exit := s.Request, s.Creation.Process, s.Run.Exit
	return encodeState("container", &statepb.ContainerState{
		Id: string(s.ID), Sandbox: string(s.Sandbox), Name: s.Name.Name, Attempt: s.Name.Attempt, Phase: string(s.Phase),
		Request: &statepb.ContainerRequest{
			At: stamp(request.At), Handler: request.Handler, Config: request.Config, SandboxConfig: request.SandboxConfig,
			ConfigDigest: request.ConfigDigest, Image: request.Image, LogPath: request.LogPath, StopSignal: request.StopSignal,
		},
		Creation: &statepb.ContainerCreation{
			RootfsPrepared: s.Creation.RootfsPrepared, Pid: int64(process.PID), StartTime: process.StartTime, Inode: process.Inode,
			Uid: s.Creation.User.UID, Gid: s.Creation.User.GID, Groups: s.Creation.User.Groups,
			UndoFailed: s.Creation.UndoFailed, SharedPids: s.Creation.SharedPIDs,
			NriPlugins: s.Creation.Adjusted.Plugins, NriAdjustment: s.Creation.Adjusted.JSON,
		},
		Run: &statepb.ContainerRun{
			RequestedAt: stamp(s.Run.RequestedAt), StartedAt: stamp(s.Run.StartedAt), ExitSeen: s.Run.ExitSeen,
			Exit: &statepb.ContainerExit{
				Code: int64(exit.Code), Signal: int64(exit.Signal), OomKilled: exit.OOMKilled, At: stamp(exit.At),
				Unknown: exit.Unknown, Note: exit.Note, MemoryPeak: exit.MemoryPeak, MemoryLimit: exit.MemoryLimit,
			},
		},
		Stopping: &statepb.ContainerStopping{
			Requests: listOf(s.Stopping.Requests, func(request string, deadline time.Time) *statepb.ContainerStopRequest {
				return &statepb.ContainerStopRequest{Request: request, Deadline: stamp(deadline)}
			}),
			Signalled: s.Stopping.Signalled, Killing: s.Stopping.Killing, KillSent: s.Stopping.KillSent,
		},
		Execs: listOf(s.Execs, func(x id.Exec, e container.Exec) *statepb.ContainerExec {
			return &statepb.ContainerExec{Id: string(x), Command: e.Command, Timeout: span(e.Timeout)}
		}),
		Logs:      &statepb.ContainerLogs{ReopensAsked: s.Logs.ReopensAsked, ReopensDone: s.Logs.ReopensDone, Lost: s.Logs.Lost},
		Removal:   &statepb.ContainerRemoval{RuntimeDeleted: s.Removal.RuntimeDeleted, RootfsReleased: s.Removal.RootfsReleased},
		Resources: resourcesTo(s.Resources),
		Blocked:   &statepb.ContainerBlocked{Calls: blockedTo(s.Blocked.Calls), Stop: s.Blocked.Stop},
		Failure:   faultTo(s.Failure), Retries: retriesTo(s.Retries),
	})
}

// DecodeContainerState returns a container's state from what a checkpoint kept.
func DecodeContainerState(b []byte) (container.State, error) {
	m := &statepb.ContainerState{}
	if err := decodeState("container", b, m); err != nil {
		return container.State{}, err
	}
	request, creation, run, stopping := m.GetRequest(), m.GetCreation(), m.GetRun(), m.GetStopping()
	exit, logs, removal := run.GetExit(), m.GetLogs(), m.GetRemoval()
	return container.State{
		ID: id.Container(m.GetId()), Sandbox: id.Sandbox(m.GetSandbox()),
		Name: container.Name{Name: m.GetName(), Attempt: m.GetAttempt()}, Phase: container.Phase(m.GetPhase()),
		Request: container.Request{
			At: at(request.GetAt()), Handler: request.GetHandler(), Config: request.GetConfig(), SandboxConfig: request.GetSandboxConfig(),
			ConfigDigest: request.GetConfigDigest(), Image: request.GetImage(), LogPath: request.GetLogPath(), StopSignal: request.GetStopSignal(),
		},
		Creation: container.Creation{
			RootfsPrepared: creation.GetRootfsPrepared(),
			Process:        container.Process{PID: int(creation.GetPid()), StartTime: creation.GetStartTime(), Inode: creation.GetInode()},
			User:           container.User{UID: creation.GetUid(), GID: creation.GetGid(), Groups: creation.GetGroups()},
			UndoFailed:     creation.GetUndoFailed(),
			SharedPIDs:     creation.GetSharedPids(),
			Adjusted:       container.Adjusted{Plugins: creation.GetNriPlugins(), JSON: creation.GetNriAdjustment()},
		},
		Run: container.Run{
			RequestedAt: at(run.GetRequestedAt()), StartedAt: at(run.GetStartedAt()), ExitSeen: run.GetExitSeen(),
			Exit: container.Exit{
				Code: int(exit.GetCode()), Signal: int(exit.GetSignal()), OOMKilled: exit.GetOomKilled(), At: at(exit.GetAt()),
				Unknown: exit.GetUnknown(), Note: exit.GetNote(), MemoryPeak: exit.GetMemoryPeak(), MemoryLimit: exit.GetMemoryLimit(),
			},
		},
		Stopping: container.Stopping{
			Requests: mapOf(stopping.GetRequests(), func(r *statepb.ContainerStopRequest) (string, time.Time) {
				return r.GetRequest(), at(r.GetDeadline())
			}),
			Signalled: stopping.GetSignalled(), Killing: stopping.GetKilling(), KillSent: stopping.GetKillSent(),
		},
		Execs: mapOf(m.GetExecs(), func(e *statepb.ContainerExec) (id.Exec, container.Exec) {
			return id.Exec(e.GetId()), container.Exec{Command: e.GetCommand(), Timeout: e.GetTimeout().AsDuration()}
		}),
		Logs:      container.Logs{ReopensAsked: logs.GetReopensAsked(), ReopensDone: logs.GetReopensDone(), Lost: logs.GetLost()},
		Removal:   container.Removal{RuntimeDeleted: removal.GetRuntimeDeleted(), RootfsReleased: removal.GetRootfsReleased()},
		Resources: resourcesFrom(m.GetResources()),
		Blocked:   container.Blocked{Calls: blockedFrom(m.GetBlocked().GetCalls()), Stop: m.GetBlocked().GetStop()},
		Failure:   faultFrom(m.GetFailure()), Retries: retriesFrom(m.GetRetries()),
	}, nil
}

func resourcesTo(x container.Resources) *statepb.ContainerResources {
	m := &statepb.ContainerResources{Asked: x.Asked, InForce: x.InForce}
	for _, u := range x.Pending {
		m.Pending = append(m.Pending, &statepb.ContainerUpdate{Number: u.Number, Change: u.Change, ByPlugin: u.ByPlugin})
	}
	return m
}

func resourcesFrom(m *statepb.ContainerResources) container.Resources {
	x := container.Resources{Asked: m.GetAsked(), InForce: m.GetInForce()}
	for _, u := range m.GetPending() {
		x.Pending = append(x.Pending, container.Update{Number: u.GetNumber(), Change: u.GetChange(), ByPlugin: u.GetByPlugin()})
	}
	return x
}
