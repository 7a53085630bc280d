package oci_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/oci"
)

func TestParseSignal(t *testing.T) {
	for name, want := range map[string]unix.Signal{
		"SIGTERM": unix.SIGTERM, "TERM": unix.SIGTERM, "term": unix.SIGTERM, "15": unix.SIGTERM, "1": unix.SIGHUP, "64": 64,
		"SIGRTMIN": 34, "SIGRTMIN+3": 37, "rtmin+3": 37, "SIGRTMINPLUS3": 37, "SIGRTMAX": 64, "SIGRTMAX-14": 50, "SIGRTMAXMINUS14": 50,
	} {
		if got, err := oci.ParseSignal(name); err != nil || got != want {
			t.Errorf("%s is %d (%v), want %d", name, got, err, want)
		}
	}
	for _, name := range []string{"", "0", "-1", "65", "SIG", "SIGNOTHING", "SIGRTMIN-1", "SIGRTMIN3", "SIGRTMAX+1", "SIGRTMIN+31", "SIGRTMIN++3", "SIGRTMIN+x", "9 ", "KILL;"} {
		if got, err := oci.ParseSignal(name); err == nil {
			t.Errorf("%q is taken for %d", name, got)
		}
	}
}

// Whatever the CRI can name, a container can be stopped with.
func TestParseSignalsOfCRI(t *testing.T) {
	for value, name := range runtimeapi.Signal_name {
		if value == int32(runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT) {
			continue
		}
		if _, err := oci.ParseSignal(strings.TrimPrefix(name, "SIGNAL_")); err != nil {
			t.Error(err)
		}
	}
}
