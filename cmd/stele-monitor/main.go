// Command stele-monitor is the one small process of a node that outlives the
// daemon: see executors/monitor/server. As `stele-monitor pause` it is the first
// process of a pod that shares a PID namespace.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"

	"github.com/stele-runtime/stele/executors/monitor/pause"
	"github.com/stele-runtime/stele/executors/monitor/server"
	"github.com/stele-runtime/stele/executors/monitor/server/cgroup"
)

// version is set by the linker.
var version = "devel"

const (
	// exitAlreadyRuns is the exit code when the directory has a monitor.
	exitAlreadyRuns = 3
	// gcPercent trades processor time for memory: the monitor makes next to no
	// garbage.
	gcPercent = 25
	// maxProcs bounds the Go runtime's per-processor memory on a large machine: one
	// thread moves all output.
	maxProcs = 4
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "pause" {
		pause.Run()
		return
	}
	os.Exit(run())
}

func run() int {
	dir := flag.String("dir", "", "directory of the socket, the lock and the journal (required)")
	group := flag.String("cgroup", "", "cgroup to run in; as a rule that of the daemon")
	debugLog := flag.Bool("debug", false, "log more")
	showVersion := flag.Bool("version", false, "print the version and exit")
	takesOver := flag.Int("takes-over", 0, "end with 0 if handovers of this format are understood")
	flag.Parse()
	if *takesOver != 0 {
		return understands(*takesOver)
	}
	if *showVersion {
		fmt.Println(version)
		return 0
	}
	if *dir == "" || flag.NArg() > 0 {
		flag.Usage()
		return 2
	}
	debug.SetGCPercent(gcPercent)
	runtime.GOMAXPROCS(min(maxProcs, runtime.NumCPU()))
	level := slog.LevelInfo
	if *debugLog {
		level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(server.OwnLog(os.Stderr, server.MaxOwnLog), &slog.HandlerOptions{Level: level}))

	handover, err := takeHandover()
	if err != nil {
		logger.Error("the monitor ends", "error", err)
		return 1
	}
	if *group != "" && handover == 0 {
		if err := cgroup.Join(*group); err != nil {
			logger.Error("the monitor ends", "error", err)
			return 1
		}
	}
	s, err := server.Open(server.Config{Dir: *dir, Build: version, Logger: logger, Args: os.Args[1:], Handover: handover})
	if errors.Is(err, server.ErrAlreadyRuns) {
		return exitAlreadyRuns
	}
	if err == nil {
		err = s.Run(context.Background())
	}
	if err != nil {
		logger.Error("the monitor ends", "error", err)
		return 1
	}
	return 0
}

// understands returns the exit code for a handover format.
func understands(format int) int {
	if format == server.HandoverFormat {
		return 0
	}
	return 1
}

// takeHandover returns the descriptor of the previous program's handover, 0 for none,
// and removes it from the environment.
func takeHandover() (int, error) {
	text, there := os.LookupEnv(server.HandoverVariable)
	if !there {
		return 0, nil
	}
	if err := os.Unsetenv(server.HandoverVariable); err != nil {
		return 0, fmt.Errorf("unset %s: %w", server.HandoverVariable, err)
	}
	descriptor, err := strconv.Atoi(text)
	if err != nil || descriptor <= 2 {
		return 0, fmt.Errorf("%s is %q, which is no descriptor", server.HandoverVariable, text)
	}
	return descriptor, nil
}
