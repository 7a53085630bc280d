package e2e

import (
	"fmt"
	"os"
	"testing"
)

var programs *Programs

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run builds the programs once, with the race detector in the daemon. The guest of test/vm
// has them already.
func run(m *testing.M) int {
	dir, err := os.Getenv("STELE_E2E_PROGRAMS"), error(nil)
	if dir != "" {
		programs, err = FoundPrograms(dir)
	} else if dir, err = os.MkdirTemp("", "stele-e2e-programs-"); err == nil {
		defer os.RemoveAll(dir)
		programs, err = BuildPrograms(dir, true)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the programs under test:", err)
		return 1
	}
	return m.Run()
}
