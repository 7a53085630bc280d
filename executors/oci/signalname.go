package oci

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
)

// ParseSignal reads a signal as the CRI ("SIGTERM", "SIGRTMIN+3") or an image
// ("TERM", "15") names it.
func ParseSignal(name string) (unix.Signal, error) {
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > 64 {
			return 0, fault.New(fault.Invalid, "parse the stop signal", name, "it is not between 1 and 64")
		}
		return unix.Signal(n), nil
	}
	upper := strings.ToUpper(name)
	if !strings.HasPrefix(upper, "SIG") {
		upper = "SIG" + upper
	}
	if sig := unix.SignalNum(upper); sig != 0 {
		return sig, nil
	}
	// The other names that three signals have, in the CRI's enumeration too.
	switch upper {
	case "SIGIOT":
		return unix.SIGIOT, nil
	case "SIGCLD":
		return unix.SIGCLD, nil
	case "SIGPOLL":
		return unix.SIGPOLL, nil
	}
	if sig, ok := realtimeSignal(upper); ok {
		return sig, nil
	}
	return 0, fault.New(fault.Invalid, "parse the stop signal", name, "there is no such signal")
}

// realtimeSignal reads SIGRTMIN+N and SIGRTMAX-N, as the C library counts them;
// the CRI's enumeration writes SIGRTMINPLUSN and SIGRTMAXMINUSN.
func realtimeSignal(name string) (unix.Signal, bool) {
	const first, last = 34, 64
	name = strings.NewReplacer("PLUS", "+", "MINUS", "-").Replace(name)
	for _, end := range []struct {
		name string
		at   int
	}{{"SIGRTMIN", first}, {"SIGRTMAX", last}} {
		offset, ok := strings.CutPrefix(name, end.name)
		if !ok {
			continue
		}
		n := 0
		if offset != "" {
			var err error
			if n, err = strconv.Atoi(offset); err != nil || offset[0] != '+' && offset[0] != '-' {
				return 0, false
			}
		}
		sig := end.at + n
		return unix.Signal(sig), sig >= first && sig <= last
	}
	return 0, false
}
