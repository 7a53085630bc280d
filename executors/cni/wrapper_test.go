package cni

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// wrapper is a plugin that calls bridge, records its calls, and can be made to
// misbehave before or after.
type wrapper struct {
	t   *testing.T
	dir string
}

// wrapperPlugin is its name in a configuration.
const wrapperPlugin = "wrapper"

const wrapperScript = `#!/bin/sh
dir=%s
input=$(cat)
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_ARGS" >>"$dir/calls"
printf %%s "$input" >"$dir/stdin-$CNI_COMMAND"
if [ -e "$dir/before-$CNI_COMMAND" ]; then . "$dir/before-$CNI_COMMAND"; fi
output=$(printf %%s "$input" | %s)
status=$?
if [ -e "$dir/after-$CNI_COMMAND" ]; then . "$dir/after-$CNI_COMMAND"; fi
printf %%s "$output"
exit $status
`

const (
	fails = `echo '{"cniVersion":"1.0.0","code":111,"msg":"on purpose"}'; exit 1`
	// hangs makes a plugin hang that has a child, which has its output.
	hangs = `sleep 3600 & touch "$dir/hanging"; wait`
)

// newWrapped makes a network whose first plugin is a wrapper.
func newWrapped(t *testing.T, s setup) (*testNet, *wrapper) {
	t.Helper()
	w := &wrapper{t: t, dir: t.TempDir()}
	s.first = wrapperPlugin
	n := newNet(t, s)
	script := fmt.Sprintf(wrapperScript, w.dir, realPlugin(t, "bridge"))
	if err := os.WriteFile(filepath.Join(n.bin, wrapperPlugin), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return n, w
}

// do has the wrapper do something "before" or "after" a verb of bridge; nothing
// more if the script is empty.
func (w *wrapper) do(when, verb, script string) {
	w.t.Helper()
	path := filepath.Join(w.dir, when+"-"+verb)
	if err := os.WriteFile(path+".tmp", []byte(script+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		w.t.Fatal(err)
	}
}

// calls returns the verbs that the wrapper was called with.
func (w *wrapper) calls() string {
	var verbs []string
	for line := range strings.Lines(w.read("calls")) {
		verbs = append(verbs, strings.Fields(line)[0])
	}
	return strings.Join(verbs, " ")
}

// read returns one of the wrapper's files.
func (w *wrapper) read(file string) string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, file))
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	return string(b)
}

// untilHanging returns a context that is cancelled when the wrapper hangs.
func (w *wrapper) untilHanging() context.Context {
	ctx, cancel := context.WithCancel(w.t.Context())
	w.t.Cleanup(cancel)
	go func() {
		defer cancel()
		soon(func() bool {
			_, err := os.Stat(filepath.Join(w.dir, "hanging"))
			return err == nil
		})
	}()
	return ctx
}

// withoutCancel is for what is done when the test has ended.
func withoutCancel(t *testing.T) context.Context { return context.WithoutCancel(t.Context()) }
