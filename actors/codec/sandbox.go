package codec

import (
	"sync"

	"google.golang.org/protobuf/types/known/timestamppb"

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
		plain[sandbox.Event, sandbox.SandboxPrepared, pb.SandboxPrepared]("sandbox.SandboxPrepared.v1"),
		failed[sandbox.Event, sandbox.SandboxPrepareFailed]("sandbox.SandboxPrepareFailed.v1",
			func(f *pb.Fault) *pb.SandboxPrepareFailed { return &pb.SandboxPrepareFailed{Fault: f} }),
		message[sandbox.Event]("sandbox.NetworkAttached.v1",
			func(e sandbox.NetworkAttached) *pb.NetworkAttached {
				return &pb.NetworkAttached{Ips: e.IPs, Result: e.Result}
			},
			func(m *pb.NetworkAttached) sandbox.NetworkAttached {
				return sandbox.NetworkAttached{IPs: m.GetIps(), Result: m.GetResult()}
			}),
		message[sandbox.Event]("sandbox.HostPortsMapped.v1.skippable",
			func(e sandbox.HostPortsMapped) *pb.HostPortsMapped { return &pb.HostPortsMapped{Ports: e.Ports} },
			func(m *pb.HostPortsMapped) sandbox.HostPortsMapped {
				return sandbox.HostPortsMapped{Ports: m.GetPorts()}
			}),
		message[sandbox.Event]("sandbox.NetworkRequestsUnserved.v1.skippable",
			func(e sandbox.NetworkRequestsUnserved) *pb.NetworkRequestsUnserved {
				return &pb.NetworkRequestsUnserved{Requests: e.Requests}
			},
			func(m *pb.NetworkRequestsUnserved) sandbox.NetworkRequestsUnserved {
				return sandbox.NetworkRequestsUnserved{Requests: m.GetRequests()}
			}),
		failed[sandbox.Event, sandbox.NetworkAttachFailed]("sandbox.NetworkAttachFailed.v1",
			func(f *pb.Fault) *pb.NetworkAttachFailed { return &pb.NetworkAttachFailed{Fault: f} }),
		message[sandbox.Event]("sandbox.HolderStarted.v1",
			func(e sandbox.HolderStarted) *pb.HolderStarted { return &pb.HolderStarted{Pid: int64(e.PID)} },
			func(m *pb.HolderStarted) sandbox.HolderStarted {
				return sandbox.HolderStarted{PID: int(m.GetPid())}
			}),
		failed[sandbox.Event, sandbox.HolderStartFailed]("sandbox.HolderStartFailed.v1",
			func(f *pb.Fault) *pb.HolderStartFailed { return &pb.HolderStartFailed{Fault: f} }),
		plain[sandbox.Event, sandbox.SandboxReady, pb.SandboxReady]("sandbox.SandboxReady.v1"),
		plain[sandbox.Event, sandbox.SandboxFailed, pb.SandboxFailed]("sandbox.SandboxFailed.v1"),
		message[sandbox.Event]("sandbox.ResourcesUpdated.v1",
			func(e sandbox.ResourcesUpdated) *pb.SandboxResourcesUpdated {
				return &pb.SandboxResourcesUpdated{Resources: e.Resources}
			},
			func(m *pb.SandboxResourcesUpdated) sandbox.ResourcesUpdated {
				return sandbox.ResourcesUpdated{Resources: m.GetResources()}
			}),
		message[sandbox.Event]("sandbox.ContainerAdded.v1",
			func(e sandbox.ContainerAdded) *pb.ContainerAdded {
				return &pb.ContainerAdded{Container: string(e.Container)}
			},
			func(m *pb.ContainerAdded) sandbox.ContainerAdded {
				return sandbox.ContainerAdded{Container: id.Container(m.GetContainer())}
			}),
		message[sandbox.Event]("sandbox.ContainerForgotten.v1",
			func(e sandbox.ContainerForgotten) *pb.ContainerForgotten {
				return &pb.ContainerForgotten{Container: string(e.Container)}
			},
			func(m *pb.ContainerForgotten) sandbox.ContainerForgotten {
				return sandbox.ContainerForgotten{Container: id.Container(m.GetContainer())}
			}),
		plain[sandbox.Event, sandbox.StopRequested, pb.SandboxStopRequested]("sandbox.StopRequested.v1"),
		plain[sandbox.Event, sandbox.RemoveRequested, pb.SandboxRemoveRequested]("sandbox.RemoveRequested.v1"),
		failed[sandbox.Event, sandbox.SandboxLost]("sandbox.SandboxLost.v1",
			func(f *pb.Fault) *pb.SandboxLost { return &pb.SandboxLost{Fault: f} }),
		message[sandbox.Event]("sandbox.HolderEnded.v1",
			func(e sandbox.HolderEnded) *pb.HolderEnded {
				return &pb.HolderEnded{Code: int64(e.Code), At: stamp(e.At)}
			},
			func(m *pb.HolderEnded) sandbox.HolderEnded {
				return sandbox.HolderEnded{Code: int(m.GetCode()), At: at(m.GetAt())}
			}),
		message[sandbox.Event]("sandbox.ContainerStopped.v1",
			func(e sandbox.ContainerStopped) *pb.ContainerStopped {
				return &pb.ContainerStopped{Container: string(e.Container)}
			},
			func(m *pb.ContainerStopped) sandbox.ContainerStopped {
				return sandbox.ContainerStopped{Container: id.Container(m.GetContainer())}
			}),
		message[sandbox.Event]("sandbox.ContainerStopFailed.v1",
			func(e sandbox.ContainerStopFailed) *pb.ContainerStopFailed {
				return &pb.ContainerStopFailed{Container: string(e.Container), Fault: faultTo(e.Fault), RetryAt: stamp(e.RetryAt)}
			},
			func(m *pb.ContainerStopFailed) sandbox.ContainerStopFailed {
				return sandbox.ContainerStopFailed{Container: id.Container(m.GetContainer()), Fault: faultFrom(m.GetFault()), RetryAt: at(m.GetRetryAt())}
			}),
		message[sandbox.Event]("sandbox.ContainerRemoveFailed.v1",
			func(e sandbox.ContainerRemoveFailed) *pb.ContainerRemoveFailed {
				return &pb.ContainerRemoveFailed{Container: string(e.Container), Fault: faultTo(e.Fault), RetryAt: stamp(e.RetryAt)}
			},
			func(m *pb.ContainerRemoveFailed) sandbox.ContainerRemoveFailed {
				return sandbox.ContainerRemoveFailed{Container: id.Container(m.GetContainer()), Fault: faultFrom(m.GetFault()), RetryAt: at(m.GetRetryAt())}
			}),
		plain[sandbox.Event, sandbox.HolderStopped, pb.HolderStopped]("sandbox.HolderStopped.v1"),
		retried[sandbox.Event, sandbox.HolderStopFailed]("sandbox.HolderStopFailed.v1",
			func(f *pb.Fault, at *timestamppb.Timestamp) *pb.HolderStopFailed {
				return &pb.HolderStopFailed{Fault: f, RetryAt: at}
			}),
		plain[sandbox.Event, sandbox.NetworkDetached, pb.NetworkDetached]("sandbox.NetworkDetached.v1"),
		retried[sandbox.Event, sandbox.NetworkDetachFailed]("sandbox.NetworkDetachFailed.v1",
			func(f *pb.Fault, at *timestamppb.Timestamp) *pb.NetworkDetachFailed {
				return &pb.NetworkDetachFailed{Fault: f, RetryAt: at}
			}),
		plain[sandbox.Event, sandbox.SandboxStopped, pb.SandboxStopped]("sandbox.SandboxStopped.v1"),
		plain[sandbox.Event, sandbox.SandboxReleased, pb.SandboxReleased]("sandbox.SandboxReleased.v1"),
		retried[sandbox.Event, sandbox.SandboxReleaseFailed]("sandbox.SandboxReleaseFailed.v1",
			func(f *pb.Fault, at *timestamppb.Timestamp) *pb.SandboxReleaseFailed {
				return &pb.SandboxReleaseFailed{Fault: f, RetryAt: at}
			}),
		plain[sandbox.Event, sandbox.SandboxRemoved, pb.SandboxRemoved]("sandbox.SandboxRemoved.v1"),
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
