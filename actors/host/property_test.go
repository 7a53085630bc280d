package host_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/machinetest"
)

// The host machine refuses nothing and owes nothing: it can only fail to be pure or
// total.
func TestEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { machinetest.Events(t, underTest, 40) })
}

func TestStrays(t *testing.T) {
	rules := machinetest.Rules[state, command, event, machinetest.NoEffect]{
		Machine: underTest,
		Call: func(t *rapid.T, _ *machinetest.Walk[state, command, event, machinetest.NoEffect]) command {
			return rapid.SampledFrom(underTest.Commands).Draw(t, "call")
		},
		Final: func(state) bool { return false },
	}
	rapid.Check(t, func(t *rapid.T) { machinetest.Strays(t, rules, 40) })
}
