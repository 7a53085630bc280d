package codec

import (
	"sync"

	"github.com/stele-runtime/stele/actors/host"
	pb "github.com/stele-runtime/stele/proto/event/v1"
)

// EncodeHost returns an event of the node's own stream as the log stores it.
func EncodeHost(e host.Event) (Encoded, error) { return hostTable().encode(e) }

// DecodeHost returns an event of the node's own stream from what the log stored.
// Errors: *UnknownTypeError, *PayloadError.
func DecodeHost(name string, schema uint32, payload []byte) (host.Event, error) {
	return hostTable().decode(name, schema, payload)
}

var hostTable = sync.OnceValue(func() table[host.Event] {
	return newTable(
		message[host.Event]("node.DaemonStarted.v1",
			func(e host.DaemonStarted) *pb.DaemonStarted {
				return &pb.DaemonStarted{BootId: e.BootID, Version: e.Version, Pid: int64(e.PID), At: stamp(e.At), Crashed: e.Crashed}
			},
			func(m *pb.DaemonStarted) host.DaemonStarted {
				return host.DaemonStarted{BootID: m.GetBootId(), Version: m.GetVersion(), PID: int(m.GetPid()), At: at(m.GetAt()), Crashed: m.GetCrashed()}
			}),
		message[host.Event]("node.DaemonStopped.v1",
			func(e host.DaemonStopped) *pb.DaemonStopped { return &pb.DaemonStopped{At: stamp(e.At)} },
			func(m *pb.DaemonStopped) host.DaemonStopped {
				return host.DaemonStopped{At: at(m.GetAt())}
			}),
		message[host.Event]("node.NodeRebooted.v1",
			func(e host.NodeRebooted) *pb.NodeRebooted { return &pb.NodeRebooted{Before: e.Before, Now: e.Now} },
			func(m *pb.NodeRebooted) host.NodeRebooted {
				return host.NodeRebooted{Before: m.GetBefore(), Now: m.GetNow()}
			}),
		message[host.Event]("node.MonitorStarted.v1",
			func(e host.MonitorStarted) *pb.MonitorStarted {
				return &pb.MonitorStarted{Pid: int64(e.PID), Version: e.Version}
			},
			func(m *pb.MonitorStarted) host.MonitorStarted {
				return host.MonitorStarted{PID: int(m.GetPid()), Version: m.GetVersion()}
			}),
		message[host.Event]("node.MonitorLost.v1",
			func(e host.MonitorLost) *pb.MonitorLost { return &pb.MonitorLost{Reason: e.Reason} },
			func(m *pb.MonitorLost) host.MonitorLost {
				return host.MonitorLost{Reason: m.GetReason()}
			}),
		message[host.Event]("node.NetworkConfigured.v1",
			func(e host.NetworkConfigured) *pb.NetworkConfigured { return &pb.NetworkConfigured{Network: e.Network} },
			func(m *pb.NetworkConfigured) host.NetworkConfigured {
				return host.NetworkConfigured{Network: m.GetNetwork()}
			}),
		message[host.Event]("node.NetworkUnconfigured.v1",
			func(e host.NetworkUnconfigured) *pb.NetworkUnconfigured {
				return &pb.NetworkUnconfigured{Problem: e.Problem}
			},
			func(m *pb.NetworkUnconfigured) host.NetworkUnconfigured {
				return host.NetworkUnconfigured{Problem: m.GetProblem()}
			}),
		message[host.Event]("node.StreamQuarantined.v1",
			func(e host.StreamQuarantined) *pb.StreamQuarantined {
				return &pb.StreamQuarantined{Stream: e.Stream, Reason: e.Reason}
			},
			func(m *pb.StreamQuarantined) host.StreamQuarantined {
				return host.StreamQuarantined{Stream: m.GetStream(), Reason: m.GetReason()}
			}),
		message[host.Event]("node.PodCIDRChanged.v1.skippable",
			func(e host.PodCIDRChanged) *pb.PodCIDRChanged { return &pb.PodCIDRChanged{Cidr: e.CIDR} },
			func(m *pb.PodCIDRChanged) host.PodCIDRChanged { return host.PodCIDRChanged{CIDR: m.GetCidr()} }),
		message[host.Event]("node.ContainersUnconfined.v1.skippable",
			func(e host.ContainersUnconfined) *pb.ContainersUnconfined {
				return &pb.ContainersUnconfined{Module: e.Module}
			},
			func(m *pb.ContainersUnconfined) host.ContainersUnconfined {
				return host.ContainersUnconfined{Module: m.GetModule()}
			}),
		message[host.Event]("node.StreamClosed.v1.skippable",
			func(e host.StreamClosed) *pb.StreamClosed { return &pb.StreamClosed{Stream: e.Stream} },
			func(m *pb.StreamClosed) host.StreamClosed { return host.StreamClosed{Stream: m.GetStream()} }),
		message[host.Event]("node.LogReplaced.v1.skippable",
			func(e host.LogReplaced) *pb.LogReplaced {
				return &pb.LogReplaced{
					At: stamp(e.At), Reason: e.Reason, SetAside: e.SetAside, Backup: e.Backup, BackupUntil: stamp(e.BackupUntil),
					Restored: int64(e.Restored), Outdated: int64(e.Outdated), Unexplained: int64(e.Unexplained), BootId: e.BootID,
				}
			},
			func(m *pb.LogReplaced) host.LogReplaced {
				return host.LogReplaced{
					At: at(m.GetAt()), Reason: m.GetReason(), SetAside: m.GetSetAside(), Backup: m.GetBackup(), BackupUntil: at(m.GetBackupUntil()),
					Restored: int(m.GetRestored()), Outdated: int(m.GetOutdated()), Unexplained: int(m.GetUnexplained()), BootID: m.GetBootId(),
				}
			}),
	)
})
