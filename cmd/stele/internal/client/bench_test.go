package client

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/cmd/stele/internal/admin"
	"github.com/stele-runtime/stele/cmd/stele/internal/history"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/projections"
	"github.com/stele-runtime/stele/projections/names"
	"github.com/stele-runtime/stele/timeline"
)

const benchPods, perPod = 125_000, 8

// past is a node with one living pod and many that are gone.
type past struct{ last sandbox.State }

func (p past) Sandboxes() []*projections.Sandbox {
	return []*projections.Sandbox{{Restored: entity.Restored[sandbox.State]{State: p.last}}}
}
func (past) Containers() []*projections.Container { return nil }
func (past) Pulls() []image.State                 { return nil }
func (p past) All() (eventlog.Sequence, []*projections.Sandbox, []*projections.Container) {
	return 0, p.Sandboxes(), nil
}
func (past) PassedOver() uint64           { return 0 }
func (past) Status() history.BackupStatus { return history.BackupStatus{} }
func (past) Held() time.Duration          { return 0 }
func (past) Image(context.Context, string, image.Command, func(image.State, image.Event) (bool, error)) (image.State, error) {
	return image.State{}, nil
}

func podID(n int) id.Sandbox { return id.Sandbox(fmt.Sprintf("%064d", n)) }
func podName(n int) sandbox.Name {
	return sandbox.Name{Namespace: "shop", Name: fmt.Sprintf("web-%d", n)}
}

// BenchmarkTimeline measures the answer about a living pod, one that ended lately and one that
// ended long ago with a history of 1,000,000 events, over the socket.
func BenchmarkTimeline(b *testing.B) {
	log, err := boltlog.Open(boltlog.Options{Path: filepath.Join(b.TempDir(), "events.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = log.Close() })
	failed := make(chan error, benchPods)
	var last sandbox.State
	for n := range benchPods {
		a := eventlog.Append{Stream: eventlog.Stream("sandbox/" + podID(n)), Volatile: true}
		last = sandbox.State{}
		for _, e := range []sandbox.Event{
			sandbox.SandboxRequested{ID: podID(n), Name: podName(n), Handler: "runc", At: time.Now()}, sandbox.SandboxPrepared{},
			sandbox.NetworkAttached{IPs: []string{"10.0.0.2"}}, sandbox.SandboxReady{}, sandbox.StopRequested{}, sandbox.NetworkDetached{},
			sandbox.SandboxStopped{}, sandbox.RemoveRequested{},
		}[:perPod] {
			encoded, err := codec.EncodeSandbox(e)
			if err != nil {
				b.Fatal(err)
			}
			last = sandbox.Evolve(last, e)
			a.Entries = append(a.Entries, eventlog.Entry{Type: encoded.Type, Schema: encoded.Schema, Payload: encoded.Payload})
		}
		log.AppendAsync(a, func(_ []eventlog.Record, err error) { failed <- err })
		if n%1000 == 999 {
			for range 1000 {
				if err := <-failed; err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	node := past{last}
	index := names.New(log, slog.New(slog.DiscardHandler))
	began := time.Now()
	if err := index.Follow(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Logf("the index was made in %v", time.Since(began))
	from, _ := serving(b, admin.New(admin.Parts{Log: log, Views: node, Names: index, Actors: node, Backups: node}))
	for name, text := range map[string]string{
		"living": fmt.Sprintf("shop/web-%d", benchPods-1), "ended": fmt.Sprintf("shop/web-%d", benchPods-5000), "long ago": "shop/web-7",
	} {
		b.Run(name, func(b *testing.B) {
			n, err := timeline.ParseName(text)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				line, _, err := from.Timeline(b.Context(), Query{Names: []timeline.Name{n}})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := line.Find(n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
