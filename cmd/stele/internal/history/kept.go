package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/projections"
	statepb "github.com/stele-runtime/stele/proto/state/v1"
)

const (
	// keepAfter is how long after a daemon's start its states are kept: who asks it then does not
	// wait for that.
	keepAfter = 200 * time.Millisecond
	// keepRetry is the pause after a state could not be kept.
	keepRetry = 5 * time.Second
	// keptBoot names the file with the boot id of what is kept, keptLast that with the sequence of
	// the record up to which it is.
	keptBoot, keptLast = "boot", "last"
	// lastLine has a fixed length, so that a new line replaces the old one whole.
	lastLine = "%020d\n"
)

// KeptDir is where the state directory keeps the states of what lives.
func KeptDir(state string) string { return filepath.Join(state, "kept") }

// Keeper keeps the states of everything that lives in the state directory, a file for each, in
// case the event log is damaged: another file system, in memory, with the boot's life. Nothing is
// synced, and nobody waits for it; what it has may be a moment old.
type Keeper struct {
	Dir    string // KeptDir
	BootID string
	Living Living
	// Changes follow what Living has.
	Changes *projections.Changes
	Logger  *slog.Logger

	// last is open for writing.
	last *os.File
	// written has a hash of what each file contains, by a hash of its name.
	written map[uint64]uint64
}

// Living is everything that has not ended as of one record.
type Living interface {
	Past() entity.Past
	All() (eventlog.Sequence, []*projections.Sandbox, []*projections.Container)
}

// Follow keeps what lives up to date, from keepAfter on, until ctx is done or the projections end.
func (k *Keeper) Follow(ctx context.Context) {
	defer func() { _ = k.last.Close() }() // nothing is buffered, and it may not be open
	pause(ctx, keepAfter)
	for {
		err := k.follow(ctx)
		if ctx.Err() != nil {
			// The last changes, so that a daemon that ends in order leaves no state of what is gone.
			_, err = k.everything()
		}
		if ctx.Err() != nil && err == nil || k.Changes.Err() != nil {
			return
		}
		k.Logger.Warn("states of pods and containers not kept in the state directory; a damaged event log would cost more", "error", err)
		if !pause(ctx, keepRetry) {
			return
		}
	}
}

func (k *Keeper) follow(ctx context.Context) error {
	after, err := k.everything()
	if err != nil {
		return err
	}
	for change, err := range k.Changes.Follow(ctx, after) {
		if _, missed := errors.AsType[*projections.MissedError](err); missed {
			return k.follow(ctx)
		}
		if err != nil {
			return err
		}
		if err := errors.Join(k.note(change), k.until(change.Record.Sequence)); err != nil {
			return err
		}
	}
	return nil
}

// everything makes the directory say what lives now, and returns the record as of which.
func (k *Keeper) everything() (eventlog.Sequence, error) {
	if err := makeDir(k.Dir); err != nil {
		return 0, err
	}
	k.written = map[uint64]uint64{}
	// What another boot kept is of no use. The boot's name is written last.
	if boot, err := os.ReadFile(filepath.Join(k.Dir, keptBoot)); err != nil || string(boot) != k.BootID {
		if err := empty(k.Dir); err != nil {
			return 0, err
		}
	}
	at, sandboxes, containers := k.Living.All()
	live := map[string]bool{keptBoot: true, keptLast: true}
	for _, s := range sandboxes {
		live[fileOf("sandbox/"+eventlog.Stream(s.State.ID))] = true
		if err := k.sandbox(s); err != nil {
			return 0, err
		}
	}
	for _, c := range containers {
		live[fileOf("container/"+eventlog.Stream(c.State.ID))] = true
		if err := k.container(c); err != nil {
			return 0, err
		}
	}
	node := k.Living.Past().Host
	live[fileOf(nodeStream)] = true
	if err := k.host(&node); err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(k.Dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if !live[e.Name()] {
			if err := k.forget(e.Name()); err != nil {
				return 0, err
			}
		}
	}
	_ = k.last.Close() // as in Follow
	if k.last, err = os.OpenFile(filepath.Join(k.Dir, keptLast), os.O_WRONLY|os.O_CREATE, 0o600); err != nil {
		return 0, err
	}
	return at, errors.Join(k.until(at), k.write(keptBoot, []byte(k.BootID)))
}

// until notes the last record that counts in what is kept.
func (k *Keeper) until(s eventlog.Sequence) error {
	_, err := k.last.WriteAt(fmt.Appendf(nil, lastLine, s), 0)
	return err
}

// keptUntil is the sequence that was noted in this boot; 0 if there is none.
func keptUntil(dir, bootID string) (s eventlog.Sequence) {
	if boot, err := os.ReadFile(filepath.Join(dir, keptBoot)); err != nil || string(boot) != bootID {
		return 0
	}
	line, err := os.ReadFile(filepath.Join(dir, keptLast))
	if err == nil {
		_, err = fmt.Sscanf(string(line), lastLine, &s)
	}
	if err != nil {
		return 0 // without it, the log is believed
	}
	return s
}

// nodeStream is the stream of the node itself.
const nodeStream eventlog.Stream = "node"

func (k *Keeper) note(change projections.Change) error {
	switch what := change.What.(type) {
	case projections.SandboxChanged:
		if what.Ended {
			return k.forget(fileOf(change.Record.Stream))
		}
		return k.sandbox(what.After)
	case projections.ContainerChanged:
		if what.Ended {
			return k.forget(fileOf(change.Record.Stream))
		}
		switch what.Event.(type) {
		case container.ExecRequested, container.ExecEnded, container.ExecFailed:
			return nil // nothing of it is kept, and with probes it is most of what happens
		default:
			return k.container(what.After)
		}
	case projections.HostChanged:
		if closed, is := what.Event.(host.StreamClosed); is {
			return errors.Join(k.forget(fileOf(eventlog.Stream(closed.Stream))), k.host(what.After))
		}
		return k.host(what.After)
	case projections.StreamPutAside:
		_, err := k.everything() // its last good state stays, with the reason
		return err
	case projections.ImageChanged: // Pulls end with their daemon.
	}
	return nil
}

// sandbox keeps what is not only of this daemon: when effects that failed are due again is.
func (k *Keeper) sandbox(s *projections.Sandbox) error {
	state := s.State
	state.Retries = nil
	return keep(k, "sandbox/"+eventlog.Stream(state.ID), KeptState[sandbox.State]{s.Restored, s.Damage}.with(state), codec.EncodeSandboxState)
}

// container leaves out commands that run beside the container, too: they end with the daemon,
// and with a probe every second it would keep nothing else.
func (k *Keeper) container(c *projections.Container) error {
	state := c.State
	state.Retries, state.Execs = nil, nil
	return keep(k, "container/"+eventlog.Stream(state.ID), KeptState[container.State]{c.Restored, c.Damage}.with(state), codec.EncodeContainerState)
}

func (k *Keeper) host(h *projections.Host) error {
	return keep(k, nodeStream, KeptState[host.State]{Restored: *h}, codec.EncodeHostState)
}

// seed is of the hashes of files that this process has written.
var seed = maphash.MakeSeed()

func hashOf(name string) uint64 { return maphash.String(seed, name) }

func keep[S any](k *Keeper, stream eventlog.Stream, at KeptState[S], encode func(S) ([]byte, error)) error {
	b, err := encode(at.State)
	if err != nil {
		return err
	}
	name, hash := fileOf(stream), maphash.Bytes(seed, b)
	if k.written[hashOf(name)] == hash && at.Damage == "" {
		return nil
	}
	content, err := proto.Marshal(&statepb.Kept{
		Schema: codec.StateSchema, Damage: strings.ToValidUTF8(at.Damage, "\uFFFD"),
		Entity: &statepb.Entity{Stream: string(stream), Version: uint64(at.Version), Sequence: uint64(at.Sequence), BootId: at.BootID, State: b},
	})
	if err != nil {
		return fmt.Errorf("encode the state of %s: %w", stream, err)
	}
	// At a start, mostly, what an earlier daemon kept still holds.
	if _, known := k.written[hashOf(name)]; known || !k.has(name, content) {
		if err := k.write(name, content); err != nil {
			return err
		}
	}
	k.written[hashOf(name)] = hash
	return nil
}

// has reports whether a file has this content.
func (k *Keeper) has(name string, content []byte) bool {
	kept, err := os.ReadFile(filepath.Join(k.Dir, name))
	return err == nil && bytes.Equal(kept, content)
}

// write replaces a file whole.
func (k *Keeper) write(name string, content []byte) error {
	path := filepath.Join(k.Dir, name)
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (k *Keeper) forget(name string) error {
	delete(k.written, hashOf(name))
	if err := os.Remove(filepath.Join(k.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// fileOf names a stream's file.
func fileOf(s eventlog.Stream) string { return strings.ReplaceAll(string(s), "/", "-") }

// empty removes the files of a directory.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
	}
	return err
}

// Kept are the states that a daemon kept in the present boot.
type Kept struct {
	// ThisBoot: they are of this boot; otherwise there are none.
	ThisBoot   bool
	Sandboxes  []KeptState[sandbox.State]
	Containers []KeptState[container.State]
	Host       KeptState[host.State]
	// Problems are files that could not be read.
	Problems []error
}

// KeptState is the state of a stream, as kept.
type KeptState[S any] struct {
	entity.Restored[S]
	// Damage is why the stream could not be followed; empty if it could.
	Damage string
}

// with returns it with another state.
func (k KeptState[S]) with(state S) KeptState[S] {
	k.State = state
	return k
}

// ReadKept reads what a daemon kept, if that was in this boot.
func ReadKept(dir, bootID string) (kept Kept) {
	if boot, err := os.ReadFile(filepath.Join(dir, keptBoot)); err != nil || string(boot) != bootID {
		return kept
	}
	kept.ThisBoot = true
	for name, content := range files(dir, &kept.Problems) {
		if err := kept.add(content); err != nil {
			kept.Problems = append(kept.Problems, fmt.Errorf("read the kept state %s: %w", name, err))
		}
	}
	return kept
}

func (k *Kept) add(content []byte) error {
	m := &statepb.Kept{}
	if err := proto.Unmarshal(content, m); err != nil {
		return err
	}
	if err := codec.CheckState(m.GetSchema()); err != nil {
		return err
	}
	kind, _, _ := strings.Cut(m.GetEntity().GetStream(), "/")
	switch kind {
	case "sandbox":
		return keptState(&k.Sandboxes, m, codec.DecodeSandboxState)
	case "container":
		return keptState(&k.Containers, m, codec.DecodeContainerState)
	case string(nodeStream):
		var h []KeptState[host.State]
		if err := keptState(&h, m, codec.DecodeHostState); err != nil {
			return err
		}
		k.Host = h[0]
		return nil
	}
	return fmt.Errorf("unknown kind of stream %q", m.GetEntity().GetStream())
}

func keptState[S any](to *[]KeptState[S], m *statepb.Kept, decode func([]byte) (S, error)) error {
	e := m.GetEntity()
	state, err := decode(e.GetState())
	if err != nil {
		return err
	}
	*to = append(*to, KeptState[S]{
		Restored: entity.Restored[S]{State: state, Version: eventlog.Version(e.GetVersion()), Sequence: eventlog.Sequence(e.GetSequence()), BootID: e.GetBootId()},
		Damage:   m.GetDamage(),
	})
	return nil
}

// files yields the contents of the kept states, by name.
func files(dir string, problems *[]error) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			*problems = append(*problems, err)
		}
		for _, e := range entries {
			if e.Name() == keptBoot || e.Name() == keptLast || strings.HasSuffix(e.Name(), ".new") {
				continue
			}
			content, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				*problems = append(*problems, err)
				continue
			}
			if !yield(e.Name(), content) {
				return
			}
		}
	}
}
