package history

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/cmd/stele/internal/places"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/projections"
)

var quiet = slog.New(slog.DiscardHandler)

// ward is a root and a state directory with a log, as daemons leave them.
type ward struct {
	t *testing.T
	Opener
	log  *boltlog.Log
	feed *projections.Feed
	// quit ends what follows the log.
	quit func()
}

func newWard(t *testing.T) *ward {
	w := &ward{t: t, Opener: Opener{
		Root: t.TempDir(), State: t.TempDir(), BootID: "boot-1", Logger: quiet, OpenLog: boltlog.Open, Default: "runc", Runtimes: map[string]string{"crun": t.TempDir()},
	}}
	w.open()
	t.Cleanup(func() { w.kill() })
	return w
}

// open is a daemon's start.
func (w *ward) open() {
	w.t.Helper()
	var err error
	if w.log, w.feed, err = w.Opener.Open(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	feed := w.feed
	tasks.Go(func() { _ = feed.Run(ctx) })
	keeper := Keeper{Dir: KeptDir(w.Opener.State), BootID: w.Opener.BootID, Living: feed.Live, Changes: feed.Changes, Logger: quiet}
	tasks.Go(func() { keeper.Follow(ctx) })
	w.quit = func() {
		cancel()
		tasks.Wait()
	}
}

// kill ends the daemon, once what it had appended is kept.
func (w *ward) kill() {
	if w.log == nil {
		return
	}
	w.quit()
	_ = w.log.Close() // a test may have damaged it
	w.log = nil
}

// settled waits until the state directory has what lives.
func (w *ward) settled() {
	w.t.Helper()
	w.await()
	want := len(w.feed.Live.Sandboxes()) + len(w.feed.Live.Containers())
	for {
		kept := ReadKept(KeptDir(w.Opener.State), w.Opener.BootID)
		fresh := len(kept.Sandboxes)+len(kept.Containers) == want && kept.Host.State == w.feed.Live.Past().Host.State
		for _, s := range kept.Sandboxes {
			now := w.feed.Live.Sandbox(s.State.ID)
			fresh = fresh && now != nil && now.Version == s.Version
		}
		for _, c := range kept.Containers {
			now := w.feed.Live.Container(c.State.ID)
			fresh = fresh && now != nil && now.Version == c.Version
		}
		if fresh {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// name is an entity's id.
func name(n int) string { return fmt.Sprintf("%064x", n) }

// appendTo appends events to a stream.
func appendTo[E any](w *ward, stream eventlog.Stream, encode func(E) (codec.Encoded, error), events ...E) {
	w.t.Helper()
	info, _, err := w.log.Stream(w.t.Context(), stream)
	if err != nil {
		w.t.Fatal(err)
	}
	a := eventlog.Append{Stream: stream, Expected: info.Version}
	for _, e := range events {
		encoded, err := encode(e)
		if err != nil {
			w.t.Fatal(err)
		}
		a.Entries = append(a.Entries, eventlog.Entry{Type: encoded.Type, Schema: encoded.Schema, Payload: encoded.Payload})
	}
	if _, err := w.log.Append(w.t.Context(), a); err != nil {
		w.t.Fatal(err)
	}
}

func encoded(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pod makes a ready pod with a running container; their ids are n and n+1.
func (w *ward) pod(n int) {
	w.t.Helper()
	s, c := id.Sandbox(name(n)), id.Container(name(n+1))
	at := time.Unix(int64(1000+n), 0).UTC()
	podConfig := &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: fmt.Sprint("pod", n)}, Labels: map[string]string{"n": fmt.Sprint(n)}}
	appendTo(w, "sandbox/"+eventlog.Stream(s), codec.EncodeSandbox, []sandbox.Event{
		sandbox.SandboxRequested{ID: s, Name: sandbox.Name{Name: fmt.Sprint("pod", n)}, Handler: "runc", Config: encoded(w.t, podConfig), At: at},
		sandbox.SandboxPrepared{}, sandbox.NetworkAttached{IPs: []string{"10.0.0.2"}}, sandbox.SandboxReady{}, sandbox.ContainerAdded{Container: c},
	}...)
	containerConfig := &runtimeapi.ContainerConfig{Metadata: &runtimeapi.ContainerMetadata{Name: "web"}, Labels: map[string]string{"n": fmt.Sprint(n)}}
	appendTo(w, "container/"+eventlog.Stream(c), codec.EncodeContainer, []container.Event{
		container.ContainerRequested{ID: c, Sandbox: s, Name: container.Name{Name: "web"}, Handler: "runc", Config: encoded(w.t, containerConfig), At: at},
		container.RootfsPrepared{}, container.ContainerCreated{Process: container.Process{PID: 4000 + n, StartTime: 7}},
		container.StartRequested{At: at}, container.ContainerStarted{At: at},
	}...)
	w.dir("sandboxes", string(s))
	w.dir("containers", string(c))
}

// dir makes what the executor leaves of an entity.
func (w *ward) dir(kind, of string) string {
	w.t.Helper()
	dir := filepath.Join(w.Opener.State, kind, of)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

// overwrite damages the log's pages behind the meta pages.
func (w *ward) overwrite() {
	w.t.Helper()
	path := w.Opener.path()
	info, err := os.Stat(path)
	if err != nil {
		w.t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	garbage := []byte(strings.Repeat("garbage!", int(info.Size()-8192)/8))
	if _, err := f.WriteAt(garbage, 8192); err != nil {
		w.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// states are the states of all that lives, as text.
func (w *ward) states() string {
	w.t.Helper()
	var b strings.Builder
	for _, s := range w.feed.Live.Sandboxes() {
		state, err := json.Marshal(s.State)
		if err != nil {
			w.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %v %s\n", state, s.Config(), s.Damage)
	}
	for _, c := range w.feed.Live.Containers() {
		state, err := json.Marshal(c.State)
		if err != nil {
			w.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %v %s\n", state, c.Config(), c.Damage)
	}
	return b.String()
}

// said is what the node's own stream says of the newest replacement.
func (w *ward) said() (last host.LogReplaced) {
	w.t.Helper()
	for r, err := range w.log.ReadStream(w.t.Context(), "node", 1) {
		if err != nil {
			w.t.Fatal(err)
		}
		e, err := codec.DecodeHost(r.Type, r.Schema, r.Payload)
		if err != nil {
			w.t.Fatal(err)
		}
		if replaced, is := e.(host.LogReplaced); is {
			last = replaced
		}
	}
	return last
}

// backUp makes an automatic backup.
func (w *ward) backUp() {
	w.t.Helper()
	b := Backups{Root: w.Opener.Root, Config: config.Default().Backup, Log: w.log, Logger: quiet}
	b.Once(w.t.Context())
	if s := b.Status(); s.Made != 1 || s.Problem != "" {
		w.t.Fatalf("%+v", s)
	}
}

// TestDamage: a damaged log costs nothing of what lives, with a backup and without; with one, its
// history is there, too.
func TestDamage(t *testing.T) {
	t.Parallel()
	for _, backedUp := range []bool{false, true} {
		t.Run(fmt.Sprint("backup ", backedUp), func(t *testing.T) {
			w := newWard(t)
			w.pod(10)
			w.pod(20)
			if backedUp {
				w.backUp()
			}
			// Since the backup one pod has gone, one has come, and one is in the middle of something.
			appendTo(w, "container/"+eventlog.Stream(name(11)), codec.EncodeContainer, container.Vanished(w.container(11))...)
			appendTo(w, "sandbox/"+eventlog.Stream(name(10)), codec.EncodeSandbox, sandbox.Vanished(w.sandbox(10))...)
			for _, gone := range []string{"sandboxes/" + name(10), "containers/" + name(11)} {
				if err := os.Remove(filepath.Join(w.Opener.State, gone)); err != nil {
					t.Fatal(err)
				}
			}
			w.pod(30)
			appendTo(w, "container/"+eventlog.Stream(name(21)), codec.EncodeContainer,
				container.Event(container.ContainerExited{Exit: container.Exit{Code: 3, At: time.Unix(5000, 0).UTC()}}))
			appendTo(w, "node", codec.EncodeHost, host.Event(host.PodCIDRChanged{CIDR: "10.1.0.0/16"}))
			w.settled()
			before := w.states()
			w.kill()
			w.overwrite()

			w.open()
			if after := w.states(); after != before {
				t.Errorf("lives\n%s\nwant\n%s", after, before)
			}
			said := w.said()
			if said.Restored != 4 || said.Outdated != 0 || said.Unexplained != 0 || said.BootID != "boot-1" || (said.Backup != "") != backedUp {
				t.Errorf("said %+v", said)
			}
			if backedUp == said.BackupUntil.IsZero() {
				t.Errorf("the backup is of %v", said.BackupUntil)
			}
			past := w.feed.Live.Past()
			if past.Host.State.PodCIDR != "10.1.0.0/16" || past.Host.State.BootID != "boot-1" {
				t.Errorf("the node is %+v", past.Host.State)
			}
			aside, err := SetAside(w.Opener.Root)
			if err != nil || len(aside) != 1 || aside[0] != said.SetAside {
				t.Errorf("set aside: %v, %v; said %s", aside, err, said.SetAside)
			}
			// A second start finds nothing to do.
			w.settled()
			last := w.log.Last()
			w.kill()
			w.open()
			if w.log.Last() != last || w.states() != before {
				t.Errorf("the next start has appended %d records", w.log.Last()-last)
			}
		})
	}
}

func (w *ward) container(n int) container.State {
	w.await()
	return w.feed.Live.Container(id.Container(name(n))).State
}

func (w *ward) sandbox(n int) sandbox.State {
	w.await()
	return w.feed.Live.Sandbox(id.Sandbox(name(n))).State
}

func (w *ward) await() {
	w.t.Helper()
	if err := w.feed.Await(w.t.Context(), w.log.Last()); err != nil {
		w.t.Fatal(err)
	}
}

// TestDamageAfterAReboot: only the backup is left, and its pods have the boot that they were in.
func TestDamageAfterAReboot(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.pod(10)
	w.backUp()
	w.pod(20)
	w.settled()
	w.kill()
	w.overwrite()
	w.Opener.BootID = "boot-2"
	w.open()
	if all := w.feed.Live.Sandboxes(); len(all) != 1 || all[0].State.ID != id.Sandbox(name(10)) {
		t.Errorf("lives\n%s", w.states())
	}
	if said := w.said(); said.Restored != 0 || said.Outdated != 2 || said.Unexplained != 0 || said.BootID != "" {
		t.Errorf("said %+v", said)
	}
}

// TestUnexplained: what the state directory has and nobody knows is listed, as unknown.
func TestUnexplained(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.pod(10)
	w.settled()
	w.kill()
	w.overwrite()
	if err := os.RemoveAll(KeptDir(w.Opener.State)); err != nil {
		t.Fatal(err)
	}
	bundle, err := json.Marshal(map[string]any{"annotations": map[string]string{
		spec.AnnotationSandboxID: name(10), spec.AnnotationPodName: "pod10", spec.AnnotationPodUID: "u10", spec.AnnotationContainerName: "web",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir("containers", name(11)), "config.json"), bundle, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(w.Opener.Runtimes["crun"], name(11)), 0o700); err != nil {
		t.Fatal(err)
	}
	w.dir("containers", name(99)) // without a bundle
	w.dir("containers", "no-id")
	w.open()
	if said := w.said(); said.Unexplained != 3 {
		t.Errorf("said %+v", said)
	}
	pod, c := w.feed.Live.Sandbox(id.Sandbox(name(10))), w.feed.Live.Container(id.Container(name(11)))
	if pod == nil || c == nil || w.feed.Live.Container(id.Container(name(99))) == nil {
		t.Fatalf("lives\n%s", w.states())
	}
	if pod.Damage == "" || pod.State.Name.Name != "pod10" || pod.Config().GetLabels()["io.kubernetes.pod.uid"] != "u10" || len(pod.State.Containers) != 1 {
		t.Errorf("the pod is %+v, %v, %q", pod.State, pod.Config(), pod.Damage)
	}
	if c.Damage == "" || c.State.Sandbox != id.Sandbox(name(10)) || c.State.Request.Handler != "crun" || c.State.Phase != container.Running {
		t.Errorf("the container is %+v, %q", c.State, c.Damage)
	}
}

// TestLogGone: a log that somebody removed under living pods is no new node.
func TestLogGone(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.pod(10)
	w.settled()
	before := w.states()
	w.kill()
	for _, end := range []string{"", journal} {
		if err := os.Remove(w.Opener.path() + end); err != nil {
			t.Fatal(err)
		}
	}
	w.open()
	if after := w.states(); after != before {
		t.Errorf("lives\n%s\nwant\n%s", after, before)
	}
	if said := w.said(); said.SetAside != "" || said.Restored != 2 {
		t.Errorf("said %+v", said)
	}
}

// TestLostEnd: a log whose journal is damaged opens, and has lost its end.
func TestLostEnd(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.pod(10)
	early := filepath.Join(t.TempDir(), "early.db")
	if err := w.log.Backup(t.Context(), early); err != nil {
		t.Fatal(err)
	}
	w.pod(20)
	w.settled()
	before := w.states()
	w.kill()
	for _, end := range []string{"", journal} {
		if err := os.Remove(w.Opener.path() + end); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(early, w.Opener.path()); err != nil {
		t.Fatal(err)
	}
	w.open()
	if after := w.states(); after != before {
		t.Errorf("lives\n%s\nwant\n%s", after, before)
	}
	if said := w.said(); said.SetAside != "" || said.Backup != "" || !strings.Contains(said.Reason, "ends at record 10") {
		t.Errorf("said %+v", said)
	}
}

// TestNotDamaged: what is no damage is not replaced.
func TestNotDamaged(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.kill()
	other, err := boltlog.Open(boltlog.Options{Path: w.Opener.path()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	w.Opener.OpenLog = func(o boltlog.Options) (*boltlog.Log, error) {
		o.LockWait = time.Millisecond
		return boltlog.Open(o)
	}
	if _, _, err := w.Opener.Open(t.Context()); !errors.Is(err, eventlog.ErrLocked) {
		t.Errorf("a log that another daemon has: %v", err)
	}
	if aside, err := SetAside(w.Opener.Root); err != nil || len(aside) > 0 {
		t.Errorf("set aside: %v, %v", aside, err)
	}
}

// TestNewerLog: a log of a newer version is refused, and stays where it is.
func TestNewerLog(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.pod(10)
	w.settled()
	w.kill()
	content, err := os.ReadFile(w.Opener.path())
	if err != nil {
		t.Fatal(err)
	}
	format := []byte("stele event log 9")
	format = fmt.Appendf(format, " %08x", crc32.Checksum(format, crc32.MakeTable(crc32.Castagnoli)))
	newer := regexp.MustCompile(`stele event log [0-9] [0-9a-f]{8}`).ReplaceAll(content, format)
	if err := os.WriteFile(w.Opener.path(), newer, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Opener.Open(t.Context()); !errors.Is(err, eventlog.ErrNewer) {
		t.Errorf("a log of a newer version: %v", err)
	}
	if aside, err := SetAside(w.Opener.Root); err != nil || len(aside) > 0 {
		t.Errorf("set aside: %v, %v", aside, err)
	}
	if left, err := os.ReadFile(w.Opener.path()); err != nil || !bytes.Equal(left, newer) {
		t.Errorf("it was changed: %v", err)
	}
}

// TestDamagedBackups: a backup that is damaged is passed over for an older one.
func TestDamagedBackups(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.pod(10)
	w.backUp()
	w.settled()
	w.kill()
	w.overwrite()
	dir := filepath.Join(w.Opener.Root, backupsDir)
	if err := copyFile(w.Opener.path(), filepath.Join(dir, "events-newer.db")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "events-empty.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	if said := w.said(); said.Backup == "" || strings.Contains(said.Backup, "newer") || strings.Contains(said.Backup, "empty") {
		t.Errorf("said %+v", said)
	}
}

// TestReplaceDies: a daemon that dies at any step of a replacement leaves a damaged log, which the
// next one replaces, or the new one.
func TestReplaceDies(t *testing.T) {
	t.Parallel()
	type death struct{}
	for _, step := range []string{"build", "set aside", "rename", "rename the journal"} {
		t.Run(step, func(t *testing.T) {
			w := newWard(t)
			w.pod(10)
			w.backUp()
			w.pod(20)
			w.settled()
			before := w.states()
			w.kill()
			w.overwrite()
			reached := false
			w.Opener.step = func(at string) {
				if at == step {
					reached = true
					panic(death{})
				}
			}
			func() {
				defer func() {
					if p := recover(); p != nil && p != (death{}) {
						panic(p)
					}
				}()
				_, _, _ = w.Opener.Open(t.Context()) // it dies
			}()
			if !reached {
				t.Fatal("the step is never reached")
			}
			w.Opener.step = nil
			w.open()
			if after := w.states(); after != before {
				t.Errorf("lives\n%s\nwant\n%s", after, before)
			}
			if _, err := os.Stat(filepath.Join(w.Opener.Root, replacing)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the new log's first name is left: %v", err)
			}
		})
	}
}

// A daemon that ends in order leaves no state of what is gone, however late that went.
func TestOrderlyEnd(t *testing.T) {
	for range 20 {
		w := newWard(t)
		s := id.Sandbox(name(1))
		stream := "sandbox/" + eventlog.Stream(s)
		appendTo(w, stream, codec.EncodeSandbox, []sandbox.Event{
			sandbox.SandboxRequested{ID: s, Name: sandbox.Name{Name: "p"}, Handler: "runc", Config: encoded(t, &runtimeapi.PodSandboxConfig{})},
			sandbox.SandboxPrepared{}, sandbox.SandboxReady{},
		}...)
		w.settled()
		appendTo(w, stream, codec.EncodeSandbox, []sandbox.Event{
			sandbox.StopRequested{}, sandbox.NetworkDetached{}, sandbox.SandboxStopped{}, sandbox.RemoveRequested{}, sandbox.SandboxReleased{}, sandbox.SandboxRemoved{},
		}...)
		w.await()
		w.kill()
		if kept := ReadKept(KeptDir(w.Opener.State), w.Opener.BootID); len(kept.Sandboxes) > 0 {
			t.Fatalf("it is kept: %+v", kept.Sandboxes)
		}
	}
}

// A start writes only what an earlier daemon has not kept.
func TestKeptAgain(t *testing.T) {
	w := newWard(t)
	for n := range 2 {
		s := id.Sandbox(name(n))
		appendTo(w, "sandbox/"+eventlog.Stream(s), codec.EncodeSandbox, []sandbox.Event{
			sandbox.SandboxRequested{ID: s, Name: sandbox.Name{Name: fmt.Sprint("p", n)}, Handler: "runc", Config: encoded(t, &runtimeapi.PodSandboxConfig{})},
			sandbox.SandboxPrepared{}, sandbox.SandboxReady{},
		}...)
	}
	w.settled()
	w.kill()
	kept := func(n int) string { return filepath.Join(KeptDir(w.Opener.State), "sandbox-"+name(n)) }
	var before [2]os.FileInfo
	for n := range before {
		var err error
		if before[n], err = os.Stat(kept(n)); err != nil {
			t.Fatal(err)
		}
	}
	good, err := os.ReadFile(kept(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(kept(1), 1); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.settled()
	for n, want := range []bool{true, false} {
		after, err := os.Stat(kept(n))
		if err != nil {
			t.Fatal(err)
		}
		if same := os.SameFile(before[n], after); same != want {
			t.Errorf("state %d is in the same file: %v", n, same)
		}
	}
	if again, err := os.ReadFile(kept(1)); err != nil || !bytes.Equal(again, good) {
		t.Errorf("the state became %q, %v", again, err)
	}
}

// TestSetAsideIsBounded: damage again and again does not fill the disk.
func TestSetAsideIsBounded(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.kill()
	for n := range 4 {
		if err := os.WriteFile(filepath.Join(w.Opener.Root, fmt.Sprintf("%s2026010%dT000000Z", aside, n+1)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.overwrite()
	w.open()
	paths, err := SetAside(w.Opener.Root)
	if err != nil || len(paths) != asideMost || !strings.HasPrefix(filepath.Base(paths[0]), places.EventsFile+".damaged-20260104") {
		t.Errorf("left are %v, %v", paths, err)
	}
}
