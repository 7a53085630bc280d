package image

// Owed returns the effects that the state still calls for, in a fixed order.
func Owed(s State) []Effect {
	var owed []Effect
	for _, p := range s.pullIDs() {
		owed = append(owed, FetchImage{Ref: s.Ref, Pull: p, SandboxConfig: s.Pulls[p].SandboxConfig})
	}
	for _, l := range s.loadIDs() {
		owed = append(owed, LoadImages{Ref: s.Ref, Name: s.Loads[l].Name, Load: l})
	}
	if s.Removing {
		owed = append(owed, DeleteImage{Ref: s.Ref})
	}
	return owed
}
