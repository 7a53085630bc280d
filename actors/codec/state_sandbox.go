package codec

import (
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	statepb "github.com/stele-runtime/stele/proto/state/v1"
)

// EncodeSandboxState returns a sandbox's state as a checkpoint keeps it.
func EncodeSandboxState(s sandbox.State) ([]byte, error) {
	return encodeState("sandbox", &statepb.SandboxState{
		Id: string(s.ID), Phase: string(s.Phase),
		Name: s.Name.Name, Namespace: s.Name.Namespace, Uid: s.Name.UID, Attempt: s.Name.Attempt,
		Handler: s.Handler, Config: s.Config, UpdatedResources: s.UpdatedResources, ConfigDigest: s.ConfigDigest, CreatedAt: stamp(s.CreatedAt),
		HostNetwork: s.HostNetwork, SharedPid: s.SharedPID, Prepared: s.Prepared, Released: s.Released,
		Network:         &statepb.SandboxNetwork{Begun: s.Network.Begun, Attached: s.Network.Attached, Detached: s.Network.Detached, Ips: s.Network.IPs},
		Holder:          &statepb.SandboxHolder{Begun: s.Holder.Begun, Pid: int64(s.Holder.PID), Exited: s.Holder.Exited, Stopped: s.Holder.Stopped},
		Containers:      membersTo(s.Containers),
		RemoveRequested: s.RemoveRequested, UndoFailed: s.UndoFailed, Failure: faultTo(s.Failure), Retries: retriesTo(s.Retries),
	})
}

// DecodeSandboxState returns a sandbox's state from what a checkpoint kept.
func DecodeSandboxState(b []byte) (sandbox.State, error) {
	m := &statepb.SandboxState{}
	if err := decodeState("sandbox", b, m); err != nil {
		return sandbox.State{}, err
	}
	network, holder := m.GetNetwork(), m.GetHolder()
	return sandbox.State{
		ID: id.Sandbox(m.GetId()), Phase: sandbox.Phase(m.GetPhase()),
		Name:    sandbox.Name{Name: m.GetName(), Namespace: m.GetNamespace(), UID: m.GetUid(), Attempt: m.GetAttempt()},
		Handler: m.GetHandler(), Config: m.GetConfig(), UpdatedResources: m.GetUpdatedResources(), ConfigDigest: m.GetConfigDigest(), CreatedAt: at(m.GetCreatedAt()),
		HostNetwork: m.GetHostNetwork(), SharedPID: m.GetSharedPid(), Prepared: m.GetPrepared(), Released: m.GetReleased(),
		Network:         sandbox.Network{Begun: network.GetBegun(), Attached: network.GetAttached(), Detached: network.GetDetached(), IPs: network.GetIps()},
		Holder:          sandbox.Holder{Begun: holder.GetBegun(), PID: int(holder.GetPid()), Exited: holder.GetExited(), Stopped: holder.GetStopped()},
		Containers:      membersFrom(m.GetContainers()),
		RemoveRequested: m.GetRemoveRequested(), UndoFailed: m.GetUndoFailed(), Failure: faultFrom(m.GetFailure()), Retries: retriesFrom(m.GetRetries()),
	}, nil
}

func membersTo(all sandbox.Members) (list []*statepb.SandboxMember) {
	for _, x := range all {
		list = append(list, &statepb.SandboxMember{Container: string(x.ID), Stopped: x.Stopped})
	}
	return list
}

func membersFrom(list []*statepb.SandboxMember) (all sandbox.Members) {
	for _, x := range list {
		all = append(all, sandbox.Member{ID: id.Container(x.GetContainer()), Stopped: x.GetStopped()})
	}
	return all
}

// EncodeHostState returns the node's own state as a checkpoint keeps it.
func EncodeHostState(s host.State) ([]byte, error) {
	return encodeState("node", &statepb.HostState{BootId: s.BootID, Running: s.Running, PodCidr: s.PodCIDR})
}

// DecodeHostState returns the node's own state from what a checkpoint kept.
func DecodeHostState(b []byte) (host.State, error) {
	m := &statepb.HostState{}
	if err := decodeState("node", b, m); err != nil {
		return host.State{}, err
	}
	return host.State{BootID: m.GetBootId(), Running: m.GetRunning(), PodCIDR: m.GetPodCidr()}, nil
}
