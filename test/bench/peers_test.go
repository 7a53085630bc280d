package bench

import (
	"fmt"
	"testing"

	"github.com/stele-runtime/stele/test/e2e"
	"github.com/stele-runtime/stele/test/peers"
)

// peer is a daemon with its pods.
type peer struct {
	name string
	h    *e2e.Harness
	// account counts the CPU time of all that it causes.
	account *account
	// pids are its processes now, without those of its pods.
	pids func() []int
	// abandon has pods cleared away at the end; nil for a daemon whose pods are to be removed.
	abandon func()
}

// BenchmarkPeers has Stele and containerd do the same, in turn, in one run: the same client makes
// the same calls, both have the same runtime, the same CNI plugins and a network of the same
// kind, with masquerade and host ports, and their state where the setting says. The tables have
// Stele's figures divided by containerd's first.
//
// lives takes pods through their lives, exec probes containers, pull pulls images; crowd runs up to
// 500 pods on Stele and 150 on containerd, for their memory, and asks for lists, for stats, and for
// bytes through Kubernetes' own port-forward. Only crowd500 has 500 on containerd, too, which takes
// as long as all the others.
func BenchmarkPeers(b *testing.B) {
	programs, err := e2e.BuildPrograms(b.TempDir(), false)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("lives", func(b *testing.B) {
		for _, s := range settings {
			b.Run(s.name, func(b *testing.B) { compareLives(b, startPeers(b, programs, s.tmpfs), s) })
		}
	})
	b.Run("exec", func(b *testing.B) { compareExecs(b, startPeers(b, programs, true)) })
	b.Run("pull", func(b *testing.B) { comparePulls(b, startPeers(b, programs, true)) })
	b.Run("crowd", func(b *testing.B) { compareCrowds(b, startPeers(b, programs, true), 150) })
	b.Run("crowd500", func(b *testing.B) { compareCrowds(b, startPeers(b, programs, true), 500) })
}

// startPeers starts both daemons: Stele is the first.
func startPeers(b *testing.B, programs *e2e.Programs, tmpfs bool) []*peer {
	b.Helper()
	states := stateIn(b, tmpfs)
	ours, theirs := openAccount(b), openAccount(b)
	h := e2e.New(b, programs, e2e.Options{StateIn: states})
	h.CgroupParent, h.Scope.Cgroups = ours.pods, []string{ours.pods}
	replaceNetwork(b, h, peers.Network(h.Bridge, h.Scope.IPAM[0], fmt.Sprintf("10.%d.0.0/20", 100+h.Number%100)))
	containerd := peers.StartContainerd(b, h, peers.Options{StateIn: states, CgroupParent: theirs.pods})
	both := []*peer{
		{name: "stele", h: h, account: ours, pids: func() []int { return append(h.MonitorPIDs(), h.Daemon.PID()) }},
		{name: "containerd", h: containerd.AsHarness(b, h), account: theirs, pids: func() []int { return containerd.PIDs(b) }, abandon: containerd.Abandon},
	}
	for _, p := range both {
		p.account.add(b, p.pids()...)
	}
	return both
}
