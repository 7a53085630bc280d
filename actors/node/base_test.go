package node_test

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/node"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// kind is how a stream of a machine is read and cut.
type kind[S, E any] struct {
	decode      func(string, uint32, []byte) (E, error)
	evolve      func(S, E) S
	encodeState func(S) ([]byte, error)
	decodeState func([]byte) (S, error)
}

// cut trims all records of a stream but the last, which says of which boot it is. It
// returns the stream's end.
func (k kind[S, E]) cut(t *testing.T, log eventlog.Log, stream eventlog.Stream) (end entity.Restored[S]) {
	t.Helper()
	info, _, err := log.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	var state S
	if info.Base.Version > 0 {
		state, err = codec.FromBase(k.decodeState)(info.Base.Schema, info.Base.State)
		state = must(t, state, err)
	}
	for r, err := range log.ReadStream(t.Context(), stream, info.Base.Version+1) {
		r = must(t, r, err)
		e, err := k.decode(r.Type, r.Schema, r.Payload)
		end = entity.As(r, k.evolve(state, must(t, e, err)))
		if r.Version < info.Version {
			state = end.State
		}
	}
	if info.Version == info.Base.Version+1 {
		return end
	}
	b, err := k.encodeState(state)
	trim := eventlog.Trim{Rule: "age", Stream: stream, Through: info.Version - 1, Schema: codec.StateSchema, State: must(t, b, err)}
	if err := log.Trim(t.Context(), trim); err != nil {
		t.Fatal(err)
	}
	return end
}

// A node whose streams begin at bases goes on with them after each restart.
func TestBootFromBases(t *testing.T) {
	for name, open := range map[string]func(dir string, was eventlog.Log) (eventlog.Log, error){
		"memlog": func(_ string, was eventlog.Log) (eventlog.Log, error) {
			if was == nil {
				return memlog.New(memlog.Options{BootID: thisBoot}), nil
			}
			return memlog.Reopen(was.(*memlog.Log), memlog.Options{BootID: thisBoot}), nil
		},
		"boltlog": func(dir string, _ eventlog.Log) (eventlog.Log, error) {
			return boltlog.Open(boltlog.Options{Path: filepath.Join(dir, "events.db"), BootID: thisBoot})
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var log eventlog.Log
			var past entity.Past
			for life := range eventlog.Version(4) {
				next, err := open(dir, log)
				log = must(t, next, err)
				pullOnce(t, log, past)
				past.Host = kind[host.State, host.Event]{codec.DecodeHost, host.Evolve, codec.EncodeHostState, codec.DecodeHostState}.cut(t, log, node.HostStream)
				for info, err := range log.Streams(t.Context(), "image/") {
					if must(t, info, err).Version != 2*(life+1) {
						t.Errorf("life %d: %s is at %d", life, info.Stream, info.Version)
					}
					kind[image.State, image.Event]{codec.DecodeImage, image.Evolve, codec.EncodeImageState, codec.DecodeImageState}.cut(t, log, info.Stream)
				}
				if err := log.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// pullOnce is a life of a node that pulls an image.
func pullOnce(t *testing.T, log eventlog.Log, past entity.Past) {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	d := newDrivers(t)
	n, err := node.New(node.Config{Log: log, Executor: d, Logger: quiet})
	d.node = must(t, n, err)
	defer n.Close(context.Background())
	if err := n.Boot(t.Context(), past, startOf(thisBoot)); err != nil {
		t.Fatal(err)
	}
	pull := id.Pull("p")
	if _, err := n.Image(t.Context(), "ref", image.RequestPull{Ref: "ref", Pull: pull}, image.PullAnswer(pull)); err != nil {
		t.Error(err)
	}
}
