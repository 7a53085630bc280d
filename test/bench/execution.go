package bench

import (
	"slices"
	"time"
)

// Execution is one of a program.
type Execution struct {
	Name string
	Args []string
	// CNI is the command of a CNI plugin.
	CNI string
	// PID is the program's, Parent that of the process that executed it.
	PID, Parent int
	Began       time.Time
	Took        time.Duration
	// CPU is the time of the program and of all that it waited for, Own what writing this down
	// takes beside.
	CPU, Own time.Duration
	// By is the program that executed it, if that is known.
	By string `json:"-"`
}

// runtimeCommands are those of an OCI runtime.
var runtimeCommands = []string{"init", "create", "start", "exec", "delete", "kill", "state", "update", "features", "ps", "list", "events", "--version"}

// Program is what was executed, with its command if it has one.
func (e Execution) Program() string {
	if e.CNI != "" && e.isPlugin() {
		return e.Name + " " + e.CNI
	}
	if e.Name == "runc" {
		for _, arg := range e.Args {
			if slices.Contains(runtimeCommands, arg) {
				return e.Name + " " + arg
			}
		}
	}
	if e.By != "" {
		return e.Name + ", by " + e.By
	}
	return e.Name
}

// isPlugin tells a plugin, which gets everything by its environment, from the programs that inherit
// that environment.
func (e Execution) isPlugin() bool { return len(e.Args) == 0 }

// apart takes from each execution the time of those within it, so that no time is counted twice. It
// keeps their order, and says by which program each was executed.
func apart(all []Execution) []Execution {
	own := slices.Clone(all)
	for n, inner := range all {
		for i, outer := range all {
			if outer.PID == inner.Parent && !inner.Began.Before(outer.Began) && inner.Began.Before(outer.Began.Add(outer.Took)) {
				own[i].Took -= inner.Took + inner.Own
				own[i].CPU -= inner.CPU + inner.Own
				own[n].By = outer.Program()
			}
		}
	}
	return own
}
