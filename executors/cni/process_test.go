package cni

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// runScript runs a script as a plugin.
func runScript(t *testing.T, script string, environ ...string) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := executor{}.ExecPlugin(t.Context(), path, []byte("{}"), append(environ, "PATH="+os.Getenv("PATH")))
	return string(out), err
}

func TestHowPluginsEnd(t *testing.T) {
	for script, says := range map[string]string{
		`exit 0`: "", `cat`: "", `exec >&- 2>&-; sleep 0.05`: "",
		`exit 7`:                                "exit status 7",
		`echo because >&2; exit 255`:            "because",
		`kill -TERM $$`:                         "signal: terminated",
		`kill -KILL $$`:                         "signal: killed",
		`echo '{"code":7,"msg":"it"}'; exit 1`:  "it",
		`setsid sleep 60 & echo $! >"$PIDFILE"`: "keep its output open",
	} {
		t.Run(script, func(t *testing.T) {
			pidFile := filepath.Join(t.TempDir(), "pid")
			t.Cleanup(func() { killWritten(t, pidFile) })
			_, err := runScript(t, script, "PIDFILE="+pidFile)
			if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
				t.Errorf("%v, want one that says %q", err, says)
			}
		})
	}
	if _, err := (executor{}).ExecPlugin(t.Context(), filepath.Join(t.TempDir(), "none"), nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v for a plugin that is not there", err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (executor{}).ExecPlugin(done, filepath.Join(t.TempDir(), "none"), nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v after the call was given up: the plugin was started", err)
	}
}

// What has ended is left to be reaped a little later, but not for long.
func TestPluginsAreReaped(t *testing.T) {
	out, err := runScript(t, `echo $$`)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the plugin is reaped", func() bool {
		_, err := os.Stat(filepath.Join("/proc", strings.TrimSpace(out)))
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestPluginsUseOneThread(t *testing.T) {
	for _, test := range []struct {
		has  []string
		want string
	}{{nil, "1"}, {[]string{"GOMAXPROCS=3"}, "3"}} {
		if out, err := runScript(t, `printf %s "$GOMAXPROCS"`, slices.Clone(test.has)...); err != nil || out != test.want {
			t.Errorf("with %v a plugin has GOMAXPROCS=%s, want %s: %v", test.has, out, test.want, err)
		}
	}
}

// killWritten ends the process whose pid a script wrote, if it did.
func killWritten(t *testing.T, path string) {
	t.Helper()
	pid, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		t.Error(err)
	}
	number, err := strconv.Atoi(strings.TrimSpace(string(pid)))
	if err != nil {
		t.Error(err)
	}
	if number > 1 {
		_ = unix.Kill(number, unix.SIGKILL) // it may have ended
	}
}
