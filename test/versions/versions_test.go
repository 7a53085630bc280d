package versions

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/projections"
)

var update = flag.Bool("update", false, "write a log of the events that no log has yet, and what all logs lead to")

// goldenEvents are the bytes of each version of each event (package codec).
const goldenEvents = "../../actors/codec/testdata"

func TestLogsOfEarlierVersions(t *testing.T) {
	missing := goldenNames(t)
	for _, path := range logs(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			names, states := replay(t, path)
			missing = slices.DeleteFunc(missing, func(name string) bool { return slices.Contains(names, name) })
			compare(t, path, states)
		})
	}
	if len(missing) == 0 {
		return
	}
	if !*update {
		t.Fatalf("no log has %s: go test ./test/versions -update", strings.Join(missing, ", "))
	}
	path := filepath.Join("testdata", fmt.Sprintf("events-%d.db.gz", len(logs(t))+1))
	write(t, path, missing)
	_, states := replay(t, path)
	compare(t, path, states)
}

func logs(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/events-*.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// compare holds what a log leads to against what it led to before.
func compare(t *testing.T, path, states string) {
	t.Helper()
	golden := strings.TrimSuffix(path, ".db.gz") + ".txt"
	if *update {
		if err := os.WriteFile(golden, []byte(states), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if states != string(want) {
		t.Errorf("it leads to other states than %s has; if a State has a new field, -update shows what changed:\n%s", golden, states)
	}
}

// replay opens a copy of a log as a daemon does. It returns the events that are in it, and the
// state of each stream.
func replay(t *testing.T, path string) (names []string, states string) {
	t.Helper()
	log := open(t, unpacked(t, path))
	report, err := log.Verify(t.Context())
	if err != nil || !report.OK() {
		t.Fatalf("%v, %v", report.Damage, err)
	}
	feed, err := projections.Open(t.Context(), log, projections.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for stream, reason := range feed.Live.Damaged() {
		// The golden bytes of resources are no message of the CRI.
		if !strings.Contains(reason, "decode the resources") {
			t.Errorf("stream %s is put aside: %s", stream, reason)
		}
	}
	at := map[eventlog.Stream]any{}
	for r, err := range log.Read(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, r.Type)
		if at[r.Stream], err = evolve(at[r.Stream], r); err != nil {
			t.Errorf("record %d, %s: %v", r.Sequence, r.Type, err)
		}
	}
	var b strings.Builder
	for info, err := range log.Streams(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		state, err := json.Marshal(at[info.Stream])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s at %d: %s\n", info.Stream, info.Version, state)
	}
	return names, b.String()
}

// evolve returns the state of a record's stream after it.
func evolve(before any, r eventlog.Record) (any, error) {
	kind, _, _ := strings.Cut(string(r.Stream), "/")
	switch kind {
	case "sandbox":
		return fold(before, r, codec.DecodeSandbox, sandbox.Evolve)
	case "container":
		return fold(before, r, codec.DecodeContainer, container.Evolve)
	case "image":
		return fold(before, r, codec.DecodeImage, image.Evolve)
	}
	return fold(before, r, codec.DecodeHost, host.Evolve)
}

func fold[S, E any](before any, r eventlog.Record, decode func(string, uint32, []byte) (E, error), evolve func(S, E) S) (any, error) {
	s, _ := before.(S) // the zero state before the first record
	e, err := decode(r.Type, r.Schema, r.Payload)
	if err != nil {
		return before, err
	}
	return evolve(s, e), nil
}

func open(t *testing.T, path string) *boltlog.Log {
	t.Helper()
	log, err := boltlog.Open(boltlog.Options{Path: path, BootID: "boot", Clock: still{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

// still is a clock that stands still.
type still struct{}

func (still) Now() time.Time           { return time.Unix(1_800_000_000, 0).UTC() }
func (still) SinceBoot() time.Duration { return time.Hour }

func unpacked(t *testing.T, path string) string {
	t.Helper()
	packed, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = packed.Close() }()
	unpack, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(unpack)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "events.db")
	if err := os.WriteFile(to, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// write writes a log in which each event has a stream of its own, behind the one that begins it.
func write(t *testing.T, path string, names []string) {
	t.Helper()
	log := open(t, filepath.Join(t.TempDir(), "events.db"))
	versions := map[eventlog.Stream]eventlog.Version{}
	for n, name := range names {
		kind, _, _ := strings.Cut(name, ".")
		stream := eventlog.Stream(fmt.Sprintf("%s/%064x", kind, n))
		if kind == "node" {
			stream = "node"
		}
		entries := begin(t, kind, fmt.Sprintf("%064x", n))
		if len(entries) == 0 || entries[0].Type != name {
			entries = append(entries, eventlog.Entry{Type: name, Schema: codec.Schema, Payload: golden(t, name)})
		}
		if _, err := log.Append(context.Background(), eventlog.Append{Stream: stream, Expected: versions[stream], Entries: entries}); err != nil {
			t.Fatal(err)
		}
		versions[stream] += eventlog.Version(len(entries))
	}
	copied := filepath.Join(t.TempDir(), "copy.db")
	if err := log.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	pack := gzip.NewWriter(&packed)
	if _, err := pack.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := cmp.Or(pack.Close(), os.WriteFile(path, packed.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// begin is the event that begins a stream of a kind, and that others follow.
func begin(t *testing.T, kind, name string) []eventlog.Entry {
	t.Helper()
	at := time.Unix(1_700_000_000, 0).UTC()
	config := encode(t, &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: name}})
	var e codec.Encoded
	var err error
	switch kind {
	case "sandbox":
		e, err = codec.EncodeSandbox(sandbox.SandboxRequested{ID: id.Sandbox(name), Name: sandbox.Name{Name: name}, Config: config, At: at})
	case "container":
		own := encode(t, &runtimeapi.ContainerConfig{Metadata: &runtimeapi.ContainerMetadata{Name: name}})
		e, err = codec.EncodeContainer(container.ContainerRequested{ID: id.Container(name), Config: own, SandboxConfig: config, At: at})
	default:
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return []eventlog.Entry{{Type: e.Type, Schema: e.Schema, Payload: e.Payload}}
}

func encode(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// goldenNames are the names of all versions of all events.
func goldenNames(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(goldenEvents)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name, is := strings.CutSuffix(e.Name(), ".txt"); is {
			names = append(names, name)
		}
	}
	return names
}

var spaces = regexp.MustCompile(`\s+`)

// golden is the payload that a golden file has.
func golden(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(goldenEvents, name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(content), "\n\n")
	payload, err := hex.DecodeString(spaces.ReplaceAllString(body, ""))
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// TestNewerEvents: what a newer version marked as skippable is passed over, counted, and stays.
func TestNewerEvents(t *testing.T) {
	log := open(t, filepath.Join(t.TempDir(), "events.db"))
	entries := begin(t, "sandbox", fmt.Sprintf("%064x", 1))
	newer := eventlog.Entry{Type: "sandbox.Unheard.v1.skippable", Schema: 7, Payload: []byte("?")}
	stream := eventlog.Stream(fmt.Sprintf("sandbox/%064x", 1))
	if _, err := log.Append(t.Context(), eventlog.Append{Stream: stream, Entries: append(entries, newer, newer)}); err != nil {
		t.Fatal(err)
	}
	feed, err := projections.Open(t.Context(), log, projections.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if n := feed.Live.PassedOver(); n != 2 || len(feed.Live.Damaged()) > 0 || len(feed.Live.Sandboxes()) != 1 {
		t.Errorf("%d were passed over; put aside: %v", n, feed.Live.Damaged())
	}
	kept := 0
	for r, err := range log.ReadStream(t.Context(), stream, 2) {
		if err != nil || r.Type != newer.Type {
			t.Errorf("%v, %v", r, err)
		}
		kept++
	}
	if kept != 2 {
		t.Errorf("%d are left, want 2", kept)
	}
}
