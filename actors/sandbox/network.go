package sandbox

// Network is what the machine knows of the pod's network.
type Network struct {
	// Begun is true as soon as an attachment may exist. From then on it has to be
	// detached, whatever became of the attaching.
	Begun bool `json:",omitempty"`
	// Attached is true once the network reported success.
	Attached bool `json:",omitempty"`
	// Detached is true once the network confirmed that nothing is left.
	Detached bool `json:",omitempty"`
	// IPs are the pod's addresses, the primary one first.
	IPs []string `json:",omitempty"`
}

func decideAttached(s State, c AttachNetworkDone) []Event {
	if c.Err != nil {
		return []Event{NetworkAttachFailed{failure(s, "attach network", c.Err)}}
	}
	events := []Event{NetworkAttached{IPs: c.IPs, Result: c.Result}}
	if len(c.MappedPorts) > 0 {
		events = append(events, HostPortsMapped{Ports: c.MappedPorts})
	}
	if len(c.Unserved) > 0 {
		events = append(events, NetworkRequestsUnserved{Requests: c.Unserved})
	}
	return events
}

func decideDetached(s State, c DetachNetworkDone) []Event {
	if c.Err != nil {
		return []Event{NetworkDetachFailed{failure(s, "detach network", c.Err), s.Retries.Next(DetachNetwork{}.Key(), c.At)}}
	}
	return []Event{NetworkDetached{}}
}

func (s State) networkOwed() bool { return s.Network.Begun && !s.Network.Detached }

// networkTried reports whether the network is gone, or detaching it was tried at least
// once. A broken plugin must not keep the kubelet from ending a pod.
func (s State) networkTried() bool {
	return !s.networkOwed() || s.Retries[DetachNetwork{}.Key()].Tries > 0
}

func owedAttach(s State) []Effect {
	if !s.Network.Begun || s.Network.Attached {
		return nil
	}
	return []Effect{AttachNetwork{Pod: s.pod()}}
}

func owedDetach(s State) []Effect {
	if !s.networkOwed() {
		return nil
	}
	return []Effect{DetachNetwork{s.pod(), s.retry(DetachNetwork{})}}
}
