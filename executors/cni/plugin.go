package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// outputMost bounds what is kept of a plugin's output, in bytes.
const outputMost = 1 << 20

// executor runs plugins. At its deadline, a plugin is killed with all its
// descendants: libcni's own executor would leave an IPAM plugin behind.
type executor struct {
	*version.PluginDecoder
	// turn learns which process runs; it may be nil.
	turn *turn
}

var _ invoke.Exec = executor{}

// FindInPath finds a plugin in the plugin directories.
func (executor) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}

// ExecPlugin runs a plugin and returns what it printed.
func (e executor) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("plugin %s is not run: %w", path, context.Cause(ctx))
	}
	p, err := start(path, stdin, environ)
	if err != nil {
		return nil, fmt.Errorf("run plugin %s: %w", path, err)
	}
	e.turn.runs(p.cmd.Process.Pid)
	status, err := p.wait(ctx)
	e.turn.runs(0)
	stdout, stderr := p.output()
	switch {
	case stdout.cut:
		return nil, fmt.Errorf("plugin %s printed more than %d bytes", path, outputMost)
	case err == nil && status.failure() == "":
		return stdout.kept.Bytes(), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("plugin %s was ended: %w", path, context.Cause(ctx))
	case err != nil:
		return nil, fmt.Errorf("run plugin %s: %w", path, err)
	}
	// A plugin prints its error as JSON on its standard output.
	var told types.Error
	if json.Unmarshal(stdout.kept.Bytes(), &told) == nil && told.Msg != "" {
		return nil, &told
	}
	return nil, fmt.Errorf("plugin %s: %s: %.500q", path, status.failure(), stdout.kept.String()+stderr.kept.String())
}

// copyAtOnce is how many bytes of a plugin's output are read at once: mostly it has fewer, and the
// status of the network is asked for every few seconds.
const copyAtOnce = 2 << 10

// bounded keeps the first bytes that are written to it. The buffer is not embedded:
// its ReadFrom would bypass the bound.
type bounded struct {
	kept bytes.Buffer
	cut  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := outputMost - b.kept.Len()
	b.cut = b.cut || len(p) > room
	_, _ = b.kept.Write(p[:min(len(p), room)]) // never fails
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom: without it, io.Copy makes a buffer of 32 KiB.
func (b *bounded) ReadFrom(from io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{b}, struct{ io.Reader }{from}, make([]byte, copyAtOnce))
}
