package cri

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/cri/streaming"
	"github.com/stele-runtime/stele/executors/streams"
)

// streamsDesk has pods and containers in several states.
func streamsDesk(t *testing.T) *desk {
	return newDesk(t, func(d *desk) {
		d.sandboxEvents("pod", ready("pod", podConfig(nil))...)
		d.sandboxEvents("stopped", append(ready("stopped", podConfig(nil)), sandbox.StopRequested{})...)
		d.containerEvents("web", running("web", "pod", containerConfig(nil))...)
		d.containerEvents("tty", running("tty", "pod", containerConfig(func(c *runtimeapi.ContainerConfig) { c.Tty = true }))...)
		d.containerEvents("dead", append(running("dead", "pod", containerConfig(nil)), container.ContainerExited{})...)
	})
}

// Bad input of Exec, Attach and PortForward is refused with the field's name, and
// nothing is offered.
func TestStreamsRefuse(t *testing.T) {
	d := streamsDesk(t)
	exec := func(r *runtimeapi.ExecRequest) func() error {
		return func() error { _, err := d.Exec(t.Context(), r); return err }
	}
	attach := func(r *runtimeapi.AttachRequest) func() error {
		return func() error { _, err := d.Attach(t.Context(), r); return err }
	}
	forward := func(pod string, ports ...int32) func() error {
		return func() error {
			_, err := d.PortForward(t.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: pod, Port: ports})
			return err
		}
	}
	cmd := []string{"sh"}
	for name, c := range map[string]struct {
		call func() error
		kind fault.Kind
		word string
	}{
		"no command":     {exec(&runtimeapi.ExecRequest{ContainerId: "web", Stdout: true}), fault.Invalid, "cmd: is empty"},
		"empty program":  {exec(&runtimeapi.ExecRequest{ContainerId: "web", Stdout: true, Cmd: []string{""}}), fault.Invalid, "cmd: is empty"},
		"NUL":            {exec(&runtimeapi.ExecRequest{ContainerId: "web", Stdout: true, Cmd: []string{"sh", "a\x00b"}}), fault.Invalid, "cmd: [1] has a NUL at byte 1"},
		"too long":       {exec(&runtimeapi.ExecRequest{ContainerId: "web", Stdout: true, Cmd: []string{strings.Repeat("x", maxCommand)}}), fault.Invalid, "cmd: is 6291457 bytes long"},
		"no stream":      {exec(&runtimeapi.ExecRequest{ContainerId: "web", Cmd: cmd}), fault.Invalid, "stdin, stdout, stderr"},
		"tty and stderr": {exec(&runtimeapi.ExecRequest{ContainerId: "web", Cmd: cmd, Tty: true, Stderr: true}), fault.Invalid, "stderr: is true with tty"},
		"no id":          {exec(&runtimeapi.ExecRequest{Cmd: cmd, Stdout: true}), fault.Invalid, "container_id: is empty"},
		"unknown":        {exec(&runtimeapi.ExecRequest{ContainerId: "nobody", Cmd: cmd, Stdout: true}), fault.NotFound, "container_id"},
		"ended":          {exec(&runtimeapi.ExecRequest{ContainerId: "dead", Cmd: cmd, Stdout: true}), fault.Precondition, "container_id: it is exited"},

		"attach: no stream":      {attach(&runtimeapi.AttachRequest{ContainerId: "web"}), fault.Invalid, "stdin, stdout, stderr"},
		"attach: tty and stderr": {attach(&runtimeapi.AttachRequest{ContainerId: "tty", Tty: true, Stderr: true}), fault.Invalid, "stderr: is true with tty"},
		"attach: no terminal":    {attach(&runtimeapi.AttachRequest{ContainerId: "web", Tty: true, Stdout: true}), fault.Invalid, "tty: is true, and the container has no terminal"},
		"attach: unknown":        {attach(&runtimeapi.AttachRequest{ContainerId: "nobody", Stdout: true}), fault.NotFound, "container_id"},
		"attach: ended":          {attach(&runtimeapi.AttachRequest{ContainerId: "dead", Stdout: true}), fault.Precondition, "container_id: it is exited"},

		"forward: port 0":         {forward("pod", 80, 0), fault.Invalid, "port: [1]: 0 is not a port"},
		"forward: port -1":        {forward("pod", -1), fault.Invalid, "port: [0]: -1 is not a port"},
		"forward: port 65536":     {forward("pod", 65536), fault.Invalid, "port: [0]: 65536 is not a port"},
		"forward: too many ports": {forward("pod", make([]int32, 101)...), fault.Invalid, "port: has 101 values"},
		"forward: no id":          {forward(""), fault.Invalid, "pod_sandbox_id: is empty"},
		"forward: unknown":        {forward("nobody"), fault.NotFound, "pod_sandbox_id"},
		"forward: stopped":        {forward("stopped", 80), fault.Precondition, "pod_sandbox_id: it is stopping, not ready"},
	} {
		err := c.call()
		t.Run(name, func(t *testing.T) { refused(t, err, c.kind, c.word) })
	}
	if d.streams.command.Run != nil || d.streams.forward.Dial != nil {
		t.Error("something was offered")
	}
	d.streams.err = streaming.ErrTooMany
	refused(t, exec(&runtimeapi.ExecRequest{ContainerId: "web", Cmd: cmd, Stdout: true})(), fault.RateLimited, "1000 streams")
	d.streams.err = streaming.ErrEnded
	refused(t, forward("pod")(), fault.Unavailable, "ending")
}

// What the URLs lead to does what was asked for.
func TestStreams(t *testing.T) {
	d := streamsDesk(t)
	d.actors.container = func(_ context.Context, c container.Command, until func(container.State, container.Event) (bool, error)) error {
		_, err := until(container.State{}, container.ExecEnded{Exec: c.(container.RunExec).Exec, Code: 7})
		return err
	}
	answer, err := d.Exec(t.Context(), &runtimeapi.ExecRequest{ContainerId: "web", Cmd: []string{"sh", "-c", "x"}, Stdin: true, Stdout: true, Tty: true})
	if err != nil || answer.GetUrl() != "exec" {
		t.Errorf("%v, %v", answer, err)
	}
	if c := d.streams.command; !c.Stdin || !c.Stdout || c.Stderr || !c.TTY {
		t.Errorf("%+v", c)
	}
	var stdout bytes.Buffer
	code, err := d.streams.command.Run(t.Context(), streams.Stdio{Stdout: &stdout, Terminal: streams.Always})
	if code != 7 || err != nil || stdout.String() != "out" || d.execs.open != 0 {
		t.Errorf("%d, %v, %q, %d open", code, err, stdout.String(), d.execs.open)
	}
	asked := d.actors.last().(container.RunExec)
	if !slices.Equal(asked.Command, []string{"sh", "-c", "x"}) || !asked.Attended || !asked.Stdin || !asked.TTY || asked.Timeout != 0 {
		t.Errorf("asked for %+v", asked)
	}
	if _, err := d.Attach(t.Context(), &runtimeapi.AttachRequest{ContainerId: "tty", Stdin: true, Stdout: true, Stderr: true}); err != nil {
		t.Error(err)
	}
	if code, err := d.streams.command.Run(t.Context(), streams.Stdio{}); code != 0 || err == nil || err.Error() != "attached to tty" {
		t.Errorf("%d, %v", code, err)
	}
	if _, err := d.PortForward(t.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: "pod", Port: []int32{80, 65535}}); err != nil {
		t.Error(err)
	}
	if ports := d.streams.forward.Ports; !slices.Equal(ports, []uint16{80, 65535}) {
		t.Errorf("ports %v", ports)
	}
	if conn, err := d.streams.forward.Dial(t.Context(), 443); conn != nil || err == nil || err.Error() != "dialed 443 in pod, host network false" {
		t.Errorf("%v, %v", conn, err)
	}
}

// CVE-2022-1708, CVE-2022-31030: what one command writes is bounded, and what all do, but
// each has some room of its own.
func TestOutputIsBoundedCVE2022_1708CVE2022_31030(t *testing.T) {
	var all outputs
	one := all.begin()
	big := bytes.Repeat([]byte("x"), 10<<20)
	for _, w := range []io.Writer{&one.stdout, &one.stderr} {
		if n, err := w.Write(big); n != len(big) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if got := len(one.stdout.bytes()) + len(one.stderr.bytes()); got != maxOutput {
		t.Errorf("%d bytes of one command, want %d", got, maxOutput)
	}
	if !bytes.Equal(one.stdout.bytes(), big) {
		t.Error("the first 10 MiB are not those that were written")
	}
	kept := 0
	var begun []*output
	for range 8 {
		o := all.begin()
		for range 16 {
			_, _ = o.stdout.Write(big[:1<<20])
		}
		if len(o.stdout.bytes()) < ownOutput {
			t.Error("a command has no room")
		}
		kept += len(o.stdout.bytes())
		begun = append(begun, o)
	}
	if kept+maxOutput > maxAllOutput+9*ownOutput {
		t.Errorf("%d bytes of all commands", kept+maxOutput)
	}
	for _, o := range append(begun, one) {
		o.end()
		_, _ = o.stdout.Write(big)
		o.end()
	}
	if all.used != 0 || one.stdout.pieces != nil {
		t.Errorf("%d bytes are still counted", all.used)
	}
	short := all.begin()
	for i := range 3 {
		fmt.Fprintf(&short.stdout, "%d ", i)
	}
	held := 0
	for _, p := range short.stdout.pieces {
		held += cap(p)
	}
	if string(short.stdout.bytes()) != "0 1 2 " || held > 20 {
		t.Errorf("%q takes %d bytes", short.stdout.bytes(), held)
	}
}
