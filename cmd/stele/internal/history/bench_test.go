package history

import (
	"testing"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/projections"
)

// BenchmarkKeeper measures what a change of a container with a configuration of 4 KiB costs.
func BenchmarkKeeper(b *testing.B) {
	k := &Keeper{Dir: b.TempDir(), written: map[uint64]uint64{}}
	c := &projections.Container{Restored: entity.Restored[container.State]{State: container.State{
		ID: id.Container(name(1)), Sandbox: id.Sandbox(name(2)), Phase: container.Running, Request: container.Request{Config: make([]byte, 4096)},
	}}}
	for n := uint64(1); b.Loop(); n++ {
		c.State.Logs.Lost = n
		if err := k.container(c); err != nil {
			b.Fatal(err)
		}
	}
}
