package codec

import (
	"sync"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	pb "github.com/stele-runtime/stele/proto/event/v1"
)

// EncodeContainer returns a container's event as the log stores it.
func EncodeContainer(e container.Event) (Encoded, error) { return containerTable().encode(e) }

// DecodeContainer returns a container's event from what the log stored. Errors:
// *UnknownTypeError, *PayloadError.
func DecodeContainer(name string, schema uint32, payload []byte) (container.Event, error) {
	return containerTable().decode(name, schema, payload)
}

var containerTable = sync.OnceValue(func() table[container.Event] {
	return newTable(
		message[container.Event]("container.ContainerRequested.v1", containerRequestedTo, containerRequestedFrom),
		plain[container.Event, container.RootfsPrepared, pb.RootfsPrepared]("container.RootfsPrepared.v1"),
		failed[container.Event, container.RootfsPrepareFailed]("container.RootfsPrepareFailed.v1",
			func(f *pb.Fault) *pb.RootfsPrepareFailed { return &pb.RootfsPrepareFailed{Fault: f} }),
		// The first version did not say who the process runs as.
		message[container.Event]("container.ContainerCreated.v1",
			func(e container.ContainerCreated) *pb.ContainerCreated {
				return &pb.ContainerCreated{Pid: int64(e.Process.PID), StartTime: e.Process.StartTime, Inode: e.Process.Inode}
			},
			func(m *pb.ContainerCreated) container.ContainerCreated {
				return container.ContainerCreated{Process: container.Process{PID: int(m.GetPid()), StartTime: m.GetStartTime(), Inode: m.GetInode()}}
			}),
		// The second did not say whose the PID namespace is.
		message[container.Event]("container.ContainerCreated.v2",
			func(e container.ContainerCreated) *pb.ContainerCreated2 {
				return &pb.ContainerCreated2{
					Pid: int64(e.Process.PID), StartTime: e.Process.StartTime, Inode: e.Process.Inode,
					Uid: e.User.UID, Gid: e.User.GID, Groups: e.User.Groups,
				}
			},
			func(m *pb.ContainerCreated2) container.ContainerCreated {
				return container.ContainerCreated{
					Process: container.Process{PID: int(m.GetPid()), StartTime: m.GetStartTime(), Inode: m.GetInode()},
					User:    container.User{UID: m.GetUid(), GID: m.GetGid(), Groups: m.GetGroups()},
				}
			}),
		message[container.Event]("container.ContainerCreated.v3",
			func(e container.ContainerCreated) *pb.ContainerCreated3 {
				return &pb.ContainerCreated3{
					Pid: int64(e.Process.PID), StartTime: e.Process.StartTime, Inode: e.Process.Inode,
					Uid: e.User.UID, Gid: e.User.GID, Groups: e.User.Groups, SharedPids: e.SharedPIDs,
				}
			},
			func(m *pb.ContainerCreated3) container.ContainerCreated {
				return container.ContainerCreated{
					Process:    container.Process{PID: int(m.GetPid()), StartTime: m.GetStartTime(), Inode: m.GetInode()},
					User:       container.User{UID: m.GetUid(), GID: m.GetGid(), Groups: m.GetGroups()},
					SharedPIDs: m.GetSharedPids(),
				}
			}),
		// The third did not say what NRI plug-ins changed.
		message[container.Event]("container.ContainerCreated.v4",
			func(e container.ContainerCreated) *pb.ContainerCreated4 {
				return &pb.ContainerCreated4{
					Pid: int64(e.Process.PID), StartTime: e.Process.StartTime, Inode: e.Process.Inode,
					Uid: e.User.UID, Gid: e.User.GID, Groups: e.User.Groups, SharedPids: e.SharedPIDs,
					NriPlugins: e.Adjustment.Plugins, NriAdjustment: e.Adjustment.JSON, Resources: e.Adjustment.Resources,
				}
			},
			func(m *pb.ContainerCreated4) container.ContainerCreated {
				return container.ContainerCreated{
					Process:    container.Process{PID: int(m.GetPid()), StartTime: m.GetStartTime(), Inode: m.GetInode()},
					User:       container.User{UID: m.GetUid(), GID: m.GetGid(), Groups: m.GetGroups()},
					SharedPIDs: m.GetSharedPids(),
					Adjustment: container.Adjustment{Plugins: m.GetNriPlugins(), JSON: m.GetNriAdjustment(), Resources: m.GetResources()},
				}
			}),
		failed[container.Event, container.ContainerCreateFailed]("container.ContainerCreateFailed.v1",
			func(f *pb.Fault) *pb.ContainerCreateFailed { return &pb.ContainerCreateFailed{Fault: f} }),
		plain[container.Event, container.ContainerFailed, pb.ContainerFailed]("container.ContainerFailed.v1"),
		message[container.Event]("container.StartRequested.v1",
			func(e container.StartRequested) *pb.StartRequested { return &pb.StartRequested{At: stamp(e.At)} },
			func(m *pb.StartRequested) container.StartRequested {
				return container.StartRequested{At: at(m.GetAt())}
			}),
		message[container.Event]("container.ContainerStarted.v1",
			func(e container.ContainerStarted) *pb.ContainerStarted { return &pb.ContainerStarted{At: stamp(e.At)} },
			func(m *pb.ContainerStarted) container.ContainerStarted {
				return container.ContainerStarted{At: at(m.GetAt())}
			}),
		message[container.Event]("container.ContainerStartFailed.v1",
			func(e container.ContainerStartFailed) *pb.ContainerStartFailed {
				return &pb.ContainerStartFailed{Fault: faultTo(e.Fault), At: stamp(e.At)}
			},
			func(m *pb.ContainerStartFailed) container.ContainerStartFailed {
				return container.ContainerStartFailed{Fault: faultFrom(m.GetFault()), At: at(m.GetAt())}
			}),
		message[container.Event]("container.StopRequested.v1",
			func(e container.StopRequested) *pb.ContainerStopRequested {
				return &pb.ContainerStopRequested{Request: e.Request, Deadline: stamp(e.Deadline)}
			},
			func(m *pb.ContainerStopRequested) container.StopRequested {
				return container.StopRequested{Request: m.GetRequest(), Deadline: at(m.GetDeadline())}
			}),
		message[container.Event]("container.StopWithdrawn.v1",
			func(e container.StopWithdrawn) *pb.StopWithdrawn {
				return &pb.StopWithdrawn{Request: e.Request}
			},
			func(m *pb.StopWithdrawn) container.StopWithdrawn {
				return container.StopWithdrawn{Request: m.GetRequest()}
			}),
		plain[container.Event, container.StopSignalled, pb.StopSignalled]("container.StopSignalled.v1"),
		failed[container.Event, container.StopSignalFailed]("container.StopSignalFailed.v1",
			func(f *pb.Fault) *pb.StopSignalFailed { return &pb.StopSignalFailed{Fault: f} }),
		// The first version did not say who asked.
		message[container.Event]("container.KillRequested.v1",
			func(container.KillRequested) *pb.KillRequested { return &pb.KillRequested{} },
			func(*pb.KillRequested) container.KillRequested { return container.KillRequested{} }),
		message[container.Event]("container.KillRequested.v2",
			func(e container.KillRequested) *pb.KillRequested2 {
				return &pb.KillRequested2{By: string(e.By), GraceOver: e.GraceOver}
			},
			func(m *pb.KillRequested2) container.KillRequested {
				return container.KillRequested{By: container.By(m.GetBy()), GraceOver: m.GetGraceOver()}
			}),
		plain[container.Event, container.Killed, pb.Killed]("container.Killed.v1"),
		retried[container.Event, container.KillFailed]("container.KillFailed.v1",
			func(f *pb.Fault, at *timestamppb.Timestamp) *pb.KillFailed {
				return &pb.KillFailed{Fault: f, RetryAt: at}
			}),
		// The first version did not say what memory the container used.
		message[container.Event]("container.ContainerExited.v1", containerExitedTo, containerExitedFrom),
		message[container.Event]("container.ContainerExited.v2", containerExited2To, containerExited2From),
		// The first version did not say how the client takes part.
		message[container.Event]("container.ExecRequested.v1",
			func(e container.ExecRequested) *pb.ExecRequested {
				return &pb.ExecRequested{Exec: string(e.Exec), Command: e.Command, Timeout: span(e.Timeout)}
			},
			func(m *pb.ExecRequested) container.ExecRequested {
				return container.ExecRequested{Exec: id.Exec(m.GetExec()), Command: m.GetCommand(), Timeout: m.GetTimeout().AsDuration()}
			}),
		message[container.Event]("container.ExecRequested.v2",
			func(e container.ExecRequested) *pb.ExecRequested2 {
				return &pb.ExecRequested2{
					Exec: string(e.Exec), Command: e.Command, Timeout: span(e.Timeout),
					Attended: e.Attended, Stdin: e.Stdin, Tty: e.TTY,
				}
			},
			func(m *pb.ExecRequested2) container.ExecRequested {
				return container.ExecRequested{
					Exec: id.Exec(m.GetExec()), Command: m.GetCommand(), Timeout: m.GetTimeout().AsDuration(),
					Attended: m.GetAttended(), Stdin: m.GetStdin(), TTY: m.GetTty(),
				}
			}),
		message[container.Event]("container.ExecEnded.v1",
			func(e container.ExecEnded) *pb.ExecEnded {
				return &pb.ExecEnded{Exec: string(e.Exec), Code: int64(e.Code), TimedOut: e.TimedOut}
			},
			func(m *pb.ExecEnded) container.ExecEnded {
				return container.ExecEnded{Exec: id.Exec(m.GetExec()), Code: int(m.GetCode()), TimedOut: m.GetTimedOut()}
			}),
		message[container.Event]("container.ExecFailed.v1",
			func(e container.ExecFailed) *pb.ExecFailed {
				return &pb.ExecFailed{Exec: string(e.Exec), Fault: faultTo(e.Fault)}
			},
			func(m *pb.ExecFailed) container.ExecFailed {
				return container.ExecFailed{Exec: id.Exec(m.GetExec()), Fault: faultFrom(m.GetFault())}
			}),
		message[container.Event]("container.ResourcesUpdateRequested.v1",
			func(e container.ResourcesUpdateRequested) *pb.ResourcesUpdateRequested {
				return &pb.ResourcesUpdateRequested{Update: e.Update, Change: e.Change}
			},
			func(m *pb.ResourcesUpdateRequested) container.ResourcesUpdateRequested {
				return container.ResourcesUpdateRequested{Update: m.GetUpdate(), Change: m.GetChange()}
			}),
		// The first version did not say who wants it.
		message[container.Event]("container.ResourcesUpdateRequested.v2",
			func(e container.ResourcesUpdateRequested) *pb.ResourcesUpdateRequested2 {
				return &pb.ResourcesUpdateRequested2{Update: e.Update, Change: e.Change, ByPlugin: e.ByPlugin}
			},
			func(m *pb.ResourcesUpdateRequested2) container.ResourcesUpdateRequested {
				return container.ResourcesUpdateRequested{Update: m.GetUpdate(), Change: m.GetChange(), ByPlugin: m.GetByPlugin()}
			}),
		message[container.Event]("container.ResourcesUpdated.v1",
			func(e container.ResourcesUpdated) *pb.ResourcesUpdated {
				return &pb.ResourcesUpdated{Update: e.Update, Resources: e.Resources}
			},
			func(m *pb.ResourcesUpdated) container.ResourcesUpdated {
				return container.ResourcesUpdated{Update: m.GetUpdate(), Resources: m.GetResources()}
			}),
		message[container.Event]("container.ResourcesUpdateFailed.v1",
			func(e container.ResourcesUpdateFailed) *pb.ResourcesUpdateFailed {
				return &pb.ResourcesUpdateFailed{Update: e.Update, Fault: faultTo(e.Fault)}
			},
			func(m *pb.ResourcesUpdateFailed) container.ResourcesUpdateFailed {
				return container.ResourcesUpdateFailed{Update: m.GetUpdate(), Fault: faultFrom(m.GetFault())}
			}),
		message[container.Event]("container.LogReopenRequested.v1",
			func(e container.LogReopenRequested) *pb.LogReopenRequested {
				return &pb.LogReopenRequested{Reopen: e.Reopen}
			},
			func(m *pb.LogReopenRequested) container.LogReopenRequested {
				return container.LogReopenRequested{Reopen: m.GetReopen()}
			}),
		message[container.Event]("container.LogReopened.v1",
			func(e container.LogReopened) *pb.LogReopened { return &pb.LogReopened{Reopen: e.Reopen} },
			func(m *pb.LogReopened) container.LogReopened {
				return container.LogReopened{Reopen: m.GetReopen()}
			}),
		message[container.Event]("container.LogReopenFailed.v1",
			func(e container.LogReopenFailed) *pb.LogReopenFailed {
				return &pb.LogReopenFailed{Reopen: e.Reopen, Fault: faultTo(e.Fault)}
			},
			func(m *pb.LogReopenFailed) container.LogReopenFailed {
				return container.LogReopenFailed{Reopen: m.GetReopen(), Fault: faultFrom(m.GetFault())}
			}),
		message[container.Event]("container.OutputLost.v1",
			func(e container.OutputLost) *pb.OutputLost { return &pb.OutputLost{Bytes: e.Bytes, Reason: e.Reason} },
			func(m *pb.OutputLost) container.OutputLost {
				return container.OutputLost{Bytes: m.GetBytes(), Reason: m.GetReason()}
			}),
		message[container.Event]("container.SyscallsBlocked.v1",
			func(e container.SyscallsBlocked) *pb.SyscallsBlocked {
				return &pb.SyscallsBlocked{Calls: blockedTo(e.Calls), Stop: e.Stop}
			},
			func(m *pb.SyscallsBlocked) container.SyscallsBlocked {
				return container.SyscallsBlocked{Calls: blockedFrom(m.GetCalls()), Stop: m.GetStop()}
			}),
		plain[container.Event, container.ContainerSuperseded, pb.ContainerSuperseded]("container.ContainerSuperseded.v1"),
		// The first version did not say who asked.
		message[container.Event]("container.RemoveRequested.v1",
			func(container.RemoveRequested) *pb.ContainerRemoveRequested { return &pb.ContainerRemoveRequested{} },
			func(*pb.ContainerRemoveRequested) container.RemoveRequested { return container.RemoveRequested{} }),
		message[container.Event]("container.RemoveRequested.v2",
			func(e container.RemoveRequested) *pb.ContainerRemoveRequested2 {
				return &pb.ContainerRemoveRequested2{By: string(e.By)}
			},
			func(m *pb.ContainerRemoveRequested2) container.RemoveRequested {
				return container.RemoveRequested{By: container.By(m.GetBy())}
			}),
		plain[container.Event, container.RuntimeDeleted, pb.RuntimeDeleted]("container.RuntimeDeleted.v1"),
		retried[container.Event, container.RuntimeDeleteFailed]("container.RuntimeDeleteFailed.v1",
			func(f *pb.Fault, at *timestamppb.Timestamp) *pb.RuntimeDeleteFailed {
				return &pb.RuntimeDeleteFailed{Fault: f, RetryAt: at}
			}),
		plain[container.Event, container.RootfsReleased, pb.RootfsReleased]("container.RootfsReleased.v1"),
		retried[container.Event, container.RootfsReleaseFailed]("container.RootfsReleaseFailed.v1",
			func(f *pb.Fault, at *timestamppb.Timestamp) *pb.RootfsReleaseFailed {
				return &pb.RootfsReleaseFailed{Fault: f, RetryAt: at}
			}),
		plain[container.Event, container.ContainerRemoved, pb.ContainerRemoved]("container.ContainerRemoved.v1"),
	)
})

func blockedTo(calls []container.BlockedSyscall) []*pb.BlockedSyscall {
	var all []*pb.BlockedSyscall
	for _, call := range calls {
		all = append(all, &pb.BlockedSyscall{Name: call.Name, Count: call.Count})
	}
	return all
}

func blockedFrom(calls []*pb.BlockedSyscall) []container.BlockedSyscall {
	var all []container.BlockedSyscall
	for _, call := range calls {
		all = append(all, container.BlockedSyscall{Name: call.GetName(), Count: call.GetCount()})
	}
	return all
}

func containerRequestedTo(e container.ContainerRequested) *pb.ContainerRequested {
	return &pb.ContainerRequested{
		Id: string(e.ID), Sandbox: string(e.Sandbox), Name: e.Name.Name, Attempt: e.Name.Attempt,
		Handler: e.Handler, Config: e.Config, SandboxConfig: e.SandboxConfig, ConfigDigest: e.ConfigDigest,
		Image: e.Image, LogPath: e.LogPath, StopSignal: e.StopSignal, At: stamp(e.At),
	}
}

func containerRequestedFrom(m *pb.ContainerRequested) container.ContainerRequested {
	return container.ContainerRequested{
		ID: id.Container(m.GetId()), Sandbox: id.Sandbox(m.GetSandbox()),
		Name:    container.Name{Name: m.GetName(), Attempt: m.GetAttempt()},
		Handler: m.GetHandler(), Config: m.GetConfig(), SandboxConfig: m.GetSandboxConfig(), ConfigDigest: m.GetConfigDigest(),
		Image: m.GetImage(), LogPath: m.GetLogPath(), StopSignal: m.GetStopSignal(), At: at(m.GetAt()),
	}
}

func containerExitedTo(e container.ContainerExited) *pb.ContainerExited {
	return &pb.ContainerExited{
		Code: int64(e.Exit.Code), Signal: int64(e.Exit.Signal), OomKilled: e.Exit.OOMKilled,
		At: stamp(e.Exit.At), Unknown: e.Exit.Unknown, Note: e.Exit.Note,
	}
}

func containerExitedFrom(m *pb.ContainerExited) container.ContainerExited {
	return container.ContainerExited{Exit: container.Exit{
		Code: int(m.GetCode()), Signal: int(m.GetSignal()), OOMKilled: m.GetOomKilled(),
		At: at(m.GetAt()), Unknown: m.GetUnknown(), Note: m.GetNote(),
	}}
}

func containerExited2To(e container.ContainerExited) *pb.ContainerExited2 {
	return &pb.ContainerExited2{
		Code: int64(e.Exit.Code), Signal: int64(e.Exit.Signal), OomKilled: e.Exit.OOMKilled,
		At: stamp(e.Exit.At), Unknown: e.Exit.Unknown, Note: e.Exit.Note,
		MemoryPeak: e.Exit.MemoryPeak, MemoryLimit: e.Exit.MemoryLimit,
	}
}

func containerExited2From(m *pb.ContainerExited2) container.ContainerExited {
	return container.ContainerExited{Exit: container.Exit{
		Code: int(m.GetCode()), Signal: int(m.GetSignal()), OOMKilled: m.GetOomKilled(),
		At: at(m.GetAt()), Unknown: m.GetUnknown(), Note: m.GetNote(),
		MemoryPeak: m.GetMemoryPeak(), MemoryLimit: m.GetMemoryLimit(),
	}}
}
