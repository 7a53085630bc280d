// Command traced stands in for a program, executes it, and writes down when it ran and which CPU
// time it took.
//
// It is linked under the program's name into a directory. Beside that directory are "real", with
// symbolic links to the programs, and "log", to which each execution adds a line.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/stele-runtime/stele/test/bench"
)

func main() {
	code, err := trace()
	if err != nil {
		fmt.Fprintln(os.Stderr, "traced:", err)
		code = 125
	}
	os.Exit(code)
}

func trace() (code int, err error) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return 0, err
	}
	name, dir := filepath.Base(self), filepath.Dir(filepath.Dir(self))
	command := exec.Cmd{
		Path: filepath.Join(dir, "real", name), Args: os.Args,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	execution := bench.Execution{
		Name: name, Args: os.Args[1:], CNI: os.Getenv("CNI_COMMAND"), Parent: os.Getppid(), Began: time.Now(),
	}
	runErr := command.Run()
	if _, ended := errors.AsType[*exec.ExitError](runErr); runErr != nil && !ended {
		return 0, runErr
	}
	state := command.ProcessState
	execution.PID, execution.Took, execution.CPU = state.Pid(), time.Since(execution.Began), state.UserTime()+state.SystemTime()
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return 0, err
	}
	execution.Own = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	encoded, err := json.Marshal(execution)
	if err != nil {
		return 0, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	// At once: others write, too.
	_, err = log.Write(append(encoded, '\n'))
	return state.ExitCode(), err
}
