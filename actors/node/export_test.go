package node

// Doze lets entities at rest go, as time does.
func (n *Node) Doze() { n.core.Doze() }
