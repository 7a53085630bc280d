package projections

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unique"

	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/eventlog"
	statepb "github.com/stele-runtime/stele/proto/state/v1"
)

const hostStream eventlog.Stream = "node"

// The prefixes of a checkpoint's keys. The values are messages of proto/state/v1.
const (
	keyLive    = "live/"
	keyEnded   = "ended/"
	keyDamaged = "damaged/"
)

// key is the key of a stream. A name that is too long is hashed; the value has it in
// full.
func key(prefix string, stream eventlog.Stream) string {
	if len(prefix)+len(stream) <= eventlog.MaxName {
		return prefix + string(stream)
	}
	sum := sha256.Sum256([]byte(stream))
	return prefix + hex.EncodeToString(sum[:])
}

func endedKey(e Ended) string { return fmt.Sprintf("%s%020d", keyEnded, e.Sequence) }

// value encodes a checkpoint's value. What it encodes is immutable, so it may be called
// at any time from any goroutine.
type value func() ([]byte, error)

// valueOf is the value of a stream after a change; nil if it has none.
func valueOf(c *Change) value {
	stream := c.Record.Stream
	switch what := c.What.(type) {
	case SandboxChanged:
		if !what.Ended {
			return sandboxValue(stream, what.After)
		}
	case ContainerChanged:
		if !what.Ended {
			return containerValue(stream, what.After)
		}
	case ImageChanged:
		return imageValue(stream, what.After, what.Idle)
	case HostChanged:
		return hostValue(stream, what.After)
	case StreamPutAside:
	}
	return nil
}

func sandboxValue(stream eventlog.Stream, s *Sandbox) value {
	return entityValue(stream, &s.Restored, codec.EncodeSandboxState)
}

func containerValue(stream eventlog.Stream, c *Container) value {
	return entityValue(stream, &c.Restored, codec.EncodeContainerState)
}

func imageValue(stream eventlog.Stream, at *Image, idle bool) value {
	encode := codec.EncodeImageState
	if idle {
		encode = nil
	}
	return entityValue(stream, at, encode)
}

func hostValue(stream eventlog.Stream, at *Host) value {
	return entityValue(stream, at, codec.EncodeHostState)
}

// entityValue is the value of a stream's state. With a nil encode it has only the place.
func entityValue[S any](stream eventlog.Stream, at *entity.Restored[S], encode func(S) ([]byte, error)) value {
	return func() (b []byte, err error) {
		e := &statepb.Entity{Stream: string(stream), Version: uint64(at.Version), Sequence: uint64(at.Sequence), BootId: at.BootID}
		if encode != nil {
			if e.State, err = encode(at.State); err != nil {
				return nil, err
			}
		}
		return proto.Marshal(e)
	}
}

func damagedValue(stream eventlog.Stream, reason string) value {
	return func() ([]byte, error) {
		return proto.Marshal(&statepb.Damaged{Stream: string(stream), Reason: strings.ToValidUTF8(reason, "\uFFFD")})
	}
}

func endedValue(e Ended) value {
	return func() ([]byte, error) {
		return proto.Marshal(&statepb.Ended{Stream: string(e.Stream), Sequence: uint64(e.Sequence)})
	}
}

// put adds a checkpoint's value to models that are being loaded.
func (f *Feed) put(key string, value []byte) error {
	switch {
	case strings.HasPrefix(key, keyLive):
		e := &statepb.Entity{}
		if err := proto.Unmarshal(value, e); err != nil {
			return err
		}
		return f.Live.restore(e)
	case strings.HasPrefix(key, keyEnded):
		e := &statepb.Ended{}
		if err := proto.Unmarshal(value, e); err != nil {
			return err
		}
		f.History.ended = append(f.History.ended, Ended{eventlog.Stream(e.GetStream()), eventlog.Sequence(e.GetSequence())})
	case strings.HasPrefix(key, keyDamaged):
		d := &statepb.Damaged{}
		if err := proto.Unmarshal(value, d); err != nil {
			return err
		}
		f.Live.damaged[eventlog.Stream(d.GetStream())] = d.GetReason()
	default:
		return errors.New("unknown kind of key")
	}
	return nil
}

// restore adds the state of a stream.
func (l *Live) restore(e *statepb.Entity) error {
	stream := eventlog.Stream(e.GetStream())
	kind, _, _ := strings.Cut(string(stream), "/")
	switch kind {
	case "sandbox":
		at, err := restored(e, codec.DecodeSandboxState)
		if err != nil {
			return err
		}
		s := &Sandbox{Restored: *at}
		if err := s.show(l.words); err != nil {
			return err
		}
		l.sandboxes.put(at.State.ID, s)
	case "container":
		at, err := restored(e, codec.DecodeContainerState)
		if err != nil {
			return err
		}
		c := &Container{Restored: *at}
		if err := c.show(l.words, nil); err != nil {
			return err
		}
		l.putContainer(c)
	case "image":
		at, err := restored(e, codec.DecodeImageState)
		if err != nil {
			return err
		}
		l.putImage(stream, at, len(e.GetState()) == 0)
	case "node":
		at, err := restored(e, codec.DecodeHostState)
		if err != nil {
			return err
		}
		l.host = at
	default:
		return fmt.Errorf("unknown kind of stream %q", stream)
	}
	return nil
}

func restored[S any](e *statepb.Entity, decode func([]byte) (S, error)) (*entity.Restored[S], error) {
	state, err := decode(e.GetState())
	return &entity.Restored[S]{
		State: state, Version: eventlog.Version(e.GetVersion()), Sequence: eventlog.Sequence(e.GetSequence()),
		BootID: unique.Make(e.GetBootId()).Value(),
	}, err
}
