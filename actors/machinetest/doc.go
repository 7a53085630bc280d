// Package machinetest proves things about the machines without a kernel, a log
// or an actor. It has two halves:
//
//   - Traces runs the golden traces of a machine: commented scenarios in
//     testdata, with commands in, and events, phase, owed effects and answers out.
//     The flag -update rewrites them.
//   - Walk takes a machine through random lives, in which effects are late, fail, or
//     get lost in a crash, and checks what must hold in all of them.
//
// Both drive a machine through Life, which checks at every step that the functions are
// pure, deterministic and total, and that the state survives encoding and a replay.
//
// It knows no machine: Machine holds what it needs of one. Read life.go first.
package machinetest
