package codec

import (
	"sync"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	pb "github.com/stele-runtime/stele/proto/event/v1"
)

// EncodeSandbox returns a sandbox's event as the log stores it.
func EncodeSandbox(e sandbox.Event) (Encoded, error) { return sandboxTable().encode(e) }

// DecodeSandbox returns a sandbox's event from what the log stored. Errors:
// *UnknownTypeError, *PayloadError.
func DecodeSandbox(name string, schema uint32, payload []byte) (sandbox.Event, error) {
	return sandboxTable().decode(name, schema, payload)
}

var sandboxTable = sync.OnceValue(func() table[sandbox.Event] {
	return newTable(
		message[sandbox.Event]("sandbox.SandboxRequested.v1", sandboxRequestedTo, sandboxRequestedFrom),
		plain[sandbox.Event, sandbox.SandboxPrepared]("sandbox.SandboxPrepared.v1"),
		message[sandbox.Event]("sandbox.SandboxPrepareFailed.v1",
			func(e sandbox.SandboxPrepareFailed) *pb.Fault { return faultTo(e.Fault) },
			func(m *pb.Fault) sandbox.SandboxPrepareFailed {
				return sandbox.SandboxPrepareFailed{Fault: faultFrom(m)}
			}),
		message[sandbox.Event]("sandbox.NetworkAttached.v1",
			func(e sandbox.NetworkAttached) *pb.NetworkAttached {
				return &pb.NetworkAttached{Ips: e.IPs, Result: e.Result}
			},
			func(m *pb.NetworkAttached) sandbox.NetworkAttached {
				return sandbox.NetworkAttached{IPs: m.GetIps(), Result: m.GetResult()}
			}),
		message[sandbox.Event]("sandbox.NetworkAttachFailed.v1",
			func(e sandbox.NetworkAttachFailed) *pb.Fault { return faultTo(e.Fault) },
			func(m *pb.Fault) sandbox.NetworkAttachFailed { return sandbox.NetworkAttachFailed{Fault: faultFrom(m)} }),
		message[sandbox.Event]("sandbox.HolderStarted.v1",
			func(e sandbox.HolderStarted) *pb.HolderStarted { return &pb.HolderStarted{Pid: int64(e.PID)} },
			func(m *pb.HolderStarted) sandbox.HolderStarted {
				return sandbox.HolderStarted{PID: int(m.GetPid())}
			}),
		message[sandbox.Event]("sandbox.HolderStartFailed.v1",
			func(e sandbox.HolderStartFailed) *pb.Fault { return faultTo(e.Fault) },
			func(m *pb.Fault) sandbox.HolderStartFailed { return sandbox.HolderStartFailed{Fault: faultFrom(m)} }),
		plain[sandbox.Event, sandbox.SandboxReady]("sandbox.SandboxReady.v1"),
		plain[sandbox.Event, sandbox.SandboxFailed]("sandbox.SandboxFailed.v1"),
		message[sandbox.Event]("sandbox.ContainerAdded.v1",
			func(e sandbox.ContainerAdded) *pb.PodContainer {
				return &pb.PodContainer{Container: string(e.Container)}
			},
			func(m *pb.PodContainer) sandbox.ContainerAdded {
				return sandbox.ContainerAdded{Container: id.Container(m.GetContainer())}
			}),
		message[sandbox.Event]("sandbox.ContainerForgotten.v1",
			func(e sandbox.ContainerForgotten) *pb.PodContainer {
				return &pb.PodContainer{Container: string(e.Container)}
			},
			func(m *pb.PodContainer) sandbox.ContainerForgotten {
				return sandbox.ContainerForgotten{Container: id.Container(m.GetContainer())}
			}),
		plain[sandbox.Event, sandbox.StopRequested]("sandbox.StopRequested.v1"),
		plain[sandbox.Event, sandbox.RemoveRequested]("sandbox.RemoveRequested.v1"),
		message[sandbox.Event]("sandbox.SandboxLost.v1",
			func(e sandbox.SandboxLost) *pb.Fault { return faultTo(e.Fault) },
			func(m *pb.Fault) sandbox.SandboxLost { return sandbox.SandboxLost{Fault: faultFrom(m)} }),
		message[sandbox.Event]("sandbox.HolderEnded.v1",
			func(e sandbox.HolderEnded) *pb.HolderEnded {
				return &pb.HolderEnded{Code: int64(e.Code), At: stamp(e.At)}
			},
			func(m *pb.HolderEnded) sandbox.HolderEnded {
				return sandbox.HolderEnded{Code: int(m.GetCode()), At: at(m.GetAt())}
			}),
		message[sandbox.Event]("sandbox.ContainerStopped.v1",
			func(e sandbox.ContainerStopped) *pb.PodContainer {
				return &pb.PodContainer{Container: string(e.Container)}
			},
			func(m *pb.PodContainer) sandbox.ContainerStopped {
				return sandbox.ContainerStopped{Container: id.Container(m.GetContainer())}
			}),
		message[sandbox.Event]("sandbox.ContainerStopFailed.v1",
			func(e sandbox.ContainerStopFailed) *pb.PodContainerRetry {
				return &pb.PodContainerRetry{Container: string(e.Container), Fault: faultTo(e.Fault), RetryAt: stamp(e.RetryAt)}
			},
			func(m *pb.PodContainerRetry) sandbox.ContainerStopFailed {
				return sandbox.ContainerStopFailed{Container: id.Container(m.GetContainer()), Fault: faultFrom(m.GetFault()), RetryAt: at(m.GetRetryAt())}
			}),
		message[sandbox.Event]("sandbox.ContainerRemoveFailed.v1",
			func(e sandbox.ContainerRemoveFailed) *pb.PodContainerRetry {
				return &pb.PodContainerRetry{Container: string(e.Container), Fault: faultTo(e.Fault), RetryAt: stamp(e.RetryAt)}
			},
			func(m *pb.PodContainerRetry) sandbox.ContainerRemoveFailed {
				return sandbox.ContainerRemoveFailed{Container: id.Container(m.GetContainer()), Fault: faultFrom(m.GetFault()), RetryAt: at(m.GetRetryAt())}
			}),
		plain[sandbox.Event, sandbox.HolderStopped]("sandbox.HolderStopped.v1"),
		message[sandbox.Event]("sandbox.HolderStopFailed.v1",
			func(e sandbox.HolderStopFailed) *pb.Retry { return retryTo(e.Fault, e.RetryAt) },
			func(m *pb.Retry) sandbox.HolderStopFailed {
				return sandbox.HolderStopFailed{Fault: faultFrom(m.GetFault()), RetryAt: at(m.GetRetryAt())}
			}),
		plain[sandbox.Event, sandbox.NetworkDetached]("sandbox.NetworkDetached.v1"),
		message[sandbox.Event]("sandbox.NetworkDetachFailed.v1",
			func(e sandbox.NetworkDetachFailed) *pb.Retry { return retryTo(e.Fault, e.RetryAt) },
			func(m *pb.Retry) sandbox.NetworkDetachFailed {
				return sandbox.NetworkDetachFailed{Fault: faultFrom(m.GetFault()), RetryAt: at(m.GetRetryAt())}
			}),
		plain[sandbox.Event, sandbox.SandboxStopped]("sandbox.SandboxStopped.v1"),
		plain[sandbox.Event, sandbox.SandboxReleased]("sandbox.SandboxReleased.v1"),
		message[sandbox.Event]("sandbox.SandboxReleaseFailed.v1",
			func(e sandbox.SandboxReleaseFailed) *pb.Retry { return retryTo(e.Fault, e.RetryAt) },
			func(m *pb.Retry) sandbox.SandboxReleaseFailed {
				return sandbox.SandboxReleaseFailed{Fault: faultFrom(m.GetFault()), RetryAt: at(m.GetRetryAt())}
			}),
		plain[sandbox.Event, sandbox.SandboxRemoved]("sandbox.SandboxRemoved.v1"),
	)
})

func sandboxRequestedTo(e sandbox.SandboxRequested) *pb.SandboxRequested {
	return &pb.SandboxRequested{
		Id: string(e.ID), Name: e.Name.Name, Namespace: e.Name.Namespace, Uid: e.Name.UID, Attempt: e.Name.Attempt,
		Handler: e.Handler, Config: e.Config, ConfigDigest: e.ConfigDigest,
		HostNetwork: e.HostNetwork, SharedPid: e.SharedPID, At: stamp(e.At),
	}
}

func sandboxRequestedFrom(m *pb.SandboxRequested) sandbox.SandboxRequested {
	return sandbox.SandboxRequested{
		ID:      id.Sandbox(m.GetId()),
		Name:    sandbox.Name{Name: m.GetName(), Namespace: m.GetNamespace(), UID: m.GetUid(), Attempt: m.GetAttempt()},
		Handler: m.GetHandler(), Config: m.GetConfig(), ConfigDigest: m.GetConfigDigest(),
		HostNetwork: m.GetHostNetwork(), SharedPID: m.GetSharedPid(), At: at(m.GetAt()),
	}
}
