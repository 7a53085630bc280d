package node_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/node"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// instant are drivers that take no time.
type instant struct{ node *node.Node }

func (*instant) Sandbox(_ context.Context, f sandbox.Effect) sandbox.Command {
	switch f.(type) {
	case sandbox.PrepareSandbox:
		return sandbox.PrepareSandboxDone{}
	case sandbox.AttachNetwork:
		return sandbox.AttachNetworkDone{IPs: []string{"10.0.0.2"}}
	case sandbox.DetachNetwork:
		return sandbox.DetachNetworkDone{}
	default:
		return sandbox.ReleaseSandboxDone{}
	}
}

func (d *instant) Container(_ context.Context, f container.Effect) container.Command {
	switch f := f.(type) {
	case container.PrepareRootfs:
		return container.PrepareRootfsDone{}
	case container.CreateRuntime:
		return container.CreateRuntimeDone{Process: container.Process{PID: 42}}
	case container.StartRuntime:
		return container.StartRuntimeDone{At: time.Now()}
	case container.Kill:
		go func() {
			_ = d.node.Exited(context.Background(), string(f.Spec.ID), container.Process{}, container.Exit{Code: 137, At: time.Now()})
		}()
		return container.KillDone{}
	case container.DeleteRuntime:
		return container.DeleteRuntimeDone{}
	default:
		return container.ReleaseRootfsDone{}
	}
}

func (*instant) Image(context.Context, image.Effect) image.Command { return nil }

// BenchmarkLives lets 500 pods live in turn, each with a container that is created,
// started, stopped and removed. One operation is all of them.
func BenchmarkLives(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		log := memlog.New(memlog.Options{BootID: thisBoot})
		d := &instant{}
		n, err := node.New(node.Config{Log: log, Executor: d, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		d.node = n
		if err := n.Boot(b.Context(), entity.Past{}, startOf(thisBoot)); err != nil {
			b.Fatal(err)
		}
		for i := range 500 {
			live(b, n, fmt.Sprint(i))
		}
		n.Close(context.Background())
		_ = log.Close()
	}
}

func live(b *testing.B, n *node.Node, name string) {
	b.Helper()
	ctx := b.Context()
	s, err := n.RunSandbox(ctx, runOf(name))
	check := func() {
		if err != nil {
			b.Fatal(err)
		}
	}
	check()
	create := createOf(s.ID, name)
	create.ID = id.Container("c-" + name)
	c, err := n.CreateContainer(ctx, create)
	check()
	_, err = n.Container(ctx, c.ID, container.Start{At: time.Now()}, container.StartAnswer)
	check()
	_, err = n.Container(ctx, c.ID, container.Stop{Request: "r", At: time.Now()}, container.StopAnswer)
	check()
	_, err = n.Container(ctx, c.ID, container.Remove{}, container.RemoveAnswer)
	check()
	_, err = n.Sandbox(ctx, s.ID, sandbox.Stop{}, sandbox.StopAnswer)
	check()
	_, err = n.Sandbox(ctx, s.ID, sandbox.Remove{}, sandbox.RemoveAnswer)
	check()
}
