package e2e

import (
	"fmt"
	"os"
	"testing"
)

// programs are built once, with the race detector in the daemon.
var programs *Programs

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "stele-e2e-programs-")
		if err == nil {
			defer os.RemoveAll(dir)
			programs, err = BuildPrograms(dir, true)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "build the programs under test:", err)
			return 1
		}
		return m.Run()
	}())
}
