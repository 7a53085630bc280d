package vm

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stele-runtime/stele/test/vm/ask"
)

// wired is a machine whose guest is the other end.
func wired(t *testing.T) (*Machine, net.Conn) {
	t.Helper()
	host, guest := net.Pipe()
	t.Cleanup(func() {
		_ = host.Close()
		_ = guest.Close()
	})
	console := filepath.Join(t.TempDir(), "console")
	if err := os.WriteFile(console, []byte("Kernel panic"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Machine{console: console, port: host, replies: json.NewDecoder(bufio.NewReader(host))}, guest
}

func TestGuestHangs(t *testing.T) {
	m, guest := wired(t)
	go func() { _, _ = io.Copy(io.Discard, guest) }() // it hears, and never answers
	_, err := m.Run(10*time.Millisecond, io.Discard, nil, "true")
	if err == nil || !strings.Contains(err.Error(), "has not answered for 10ms") || !strings.Contains(err.Error(), "Kernel panic") {
		t.Errorf("got %v", err)
	}
	if _, err := m.Run(time.Hour, io.Discard, nil, "true"); err == nil {
		t.Error("a guest that hangs takes another command")
	}
}

func TestGuestAnswers(t *testing.T) {
	m, guest := wired(t)
	go func() {
		replies := json.NewEncoder(guest)
		var c ask.Command
		if err := json.NewDecoder(guest).Decode(&c); err == nil {
			_ = replies.Encode(ask.Reply{Output: []byte(strings.Join(c.Args, " "))})
			_ = replies.Encode(ask.Reply{Ended: true, Code: 3})
		}
	}()
	var out strings.Builder
	if code, err := m.Run(time.Minute, &out, nil, "exit", "3"); code != 3 || err != nil || out.String() != "exit 3" {
		t.Errorf("code %d, %v, output %q", code, err, &out)
	}
}

// The tests are skipped without packages, and only then.
func TestGuestThatCannotBeBuilt(t *testing.T) {
	for name, c := range map[string]struct {
		mmdebstrap  string
		unavailable bool
	}{
		"packages": {"exit 1", true},
		// As mmdebstrap does once all is installed.
		"recipe": {`for arg; do case $arg in --customize-hook=*) sh -c "${arg#*=}" || exit 1; esac; done`, false},
	} {
		t.Run(name, func(t *testing.T) {
			bin := t.TempDir()
			if err := os.WriteFile(filepath.Join(bin, "mmdebstrap"), []byte("#!/bin/sh\n"+c.mmdebstrap+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			cache := t.TempDir()
			_, err := BuildGuest(t.Context(), cache)
			var unavailable *Unavailable
			if err == nil || errors.As(err, &unavailable) != c.unavailable {
				t.Errorf("got %v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(cache, "building-*")); len(left) > 0 {
				t.Errorf("left in the cache: %q", left)
			}
		})
	}
}

func TestQEMUThatEnds(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "qemu-system-x86_64"), []byte("#!/bin/sh\necho no such machine >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	if _, err := Boot(t.Context(), Guest{}, Options{Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "no such machine") {
		t.Errorf("got %v", err)
	}
}
