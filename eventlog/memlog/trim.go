package memlog

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/stele-runtime/stele/eventlog"
)

// info describes a stream; its version is 0 if it does not exist.
func (s *state) info(name eventlog.Stream) eventlog.StreamInfo {
	info := eventlog.StreamInfo{Stream: name, Base: s.bases[name]}
	info.Version = info.Base.Version
	if sequences := s.streams[name]; len(sequences) > 0 {
		info.Version = s.records[sequences[len(sequences)-1]-1].Version
	}
	return info
}

// names are those of all streams with a prefix, ascending.
func (s *state) names(prefix string) []eventlog.Stream {
	all := make(map[eventlog.Stream]bool)
	for name, sequences := range s.streams {
		all[name] = len(sequences) > 0
	}
	for name := range s.bases {
		all[name] = true
	}
	maps.DeleteFunc(all, func(name eventlog.Stream, exists bool) bool {
		return !exists || !strings.HasPrefix(string(name), prefix)
	})
	return slices.Sorted(maps.Keys(all))
}

// Trim implements eventlog.Log.
func (l *Log) Trim(ctx context.Context, t eventlog.Trim) error {
	if err := l.alive(ctx); err != nil {
		return err
	}
	if err := t.Check(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	info := l.state.info(t.Stream)
	if err := t.CheckAt(info); err != nil {
		return err
	}
	sequences, n := l.state.streams[t.Stream], 0
	for n < len(sequences) && l.state.records[sequences[n]-1].Version <= t.Through {
		n++
	}
	if !t.Whole && (n == 0 || l.state.records[sequences[n-1]-1].Version != t.Through) {
		return t.NoRecord()
	}
	gone := l.remove(sequences[:n], t.Rule)
	if t.Whole {
		delete(l.state.streams, t.Stream)
		delete(l.state.bases, t.Stream)
		delete(l.state.thinned, t.Stream)
		return nil
	}
	base := eventlog.Base{Version: t.Through, Sequence: sequences[n-1], Schema: t.Schema, State: copyOf(t.State), Removed: info.Base.Removed}
	thinned := maps.Clone(l.state.thinned[t.Stream])
	for version := info.Base.Version + 1; version <= t.Through; version++ {
		was, is := thinned[version]
		if !is {
			was, gone = gone[0], gone[1:]
		}
		base.Removed = base.Removed.Join(was.removal())
		delete(thinned, version)
	}
	l.state.bases[t.Stream] = base
	l.state.streams[t.Stream] = sequences[n:]
	l.state.thinned[t.Stream] = thinned
	return nil
}

// Stream implements eventlog.Reader.
func (l *Log) Stream(ctx context.Context, s eventlog.Stream) (eventlog.StreamInfo, bool, error) {
	if err := l.alive(ctx); err != nil {
		return eventlog.StreamInfo{}, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	info := l.state.info(s)
	if info.Base.State != nil {
		info.Base.State = copyOf(info.Base.State)
	}
	return info, info.Version > 0, nil
}

// Streams implements eventlog.Reader.
func (l *Log) Streams(ctx context.Context, prefix string) iter.Seq2[eventlog.StreamInfo, error] {
	return func(yield func(eventlog.StreamInfo, error) bool) {
		l.mu.Lock()
		names := l.state.names(prefix)
		l.mu.Unlock()
		if err := l.alive(ctx); err != nil {
			yield(eventlog.StreamInfo{}, err)
			return
		}
		for _, name := range names {
			info, found, err := l.Stream(ctx, name)
			if err == nil && !found {
				continue
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// Bases implements eventlog.Reader.
func (l *Log) Bases(ctx context.Context) iter.Seq2[eventlog.StreamInfo, error] {
	return func(yield func(eventlog.StreamInfo, error) bool) {
		for info, err := range l.Streams(ctx, "") {
			if (err != nil || info.Base.Version > 0) && !yield(info, err) {
				return
			}
		}
	}
}

// saved is a log in a file.
type saved struct {
	Records     []eventlog.Record
	Bases       map[eventlog.Stream]eventlog.Base
	Removed     map[eventlog.Sequence]removed
	Thinned     map[eventlog.Stream]map[eventlog.Version]removed
	Checkpoints map[string]savedCheckpoint
}

type savedCheckpoint struct {
	At    eventlog.Checkpoint
	Pairs map[string][]byte
}

// Backup implements eventlog.Reader. OpenBackup opens the copy.
func (l *Log) Backup(ctx context.Context, path string) error {
	if err := l.alive(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	s := saved{
		l.state.records, maps.Clone(l.state.bases), maps.Clone(l.state.removed), maps.Clone(l.state.thinned),
		make(map[string]savedCheckpoint),
	}
	for name, c := range l.state.checkpoints {
		s.Checkpoints[name] = savedCheckpoint{c.Checkpoint, c.pairs}
	}
	l.mu.Unlock()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("back up the log: %w", err)
	}
	return errors.Join(gob.NewEncoder(f).Encode(s), f.Close())
}

// OpenBackup returns a log with what a backup has.
func OpenBackup(path string, o Options) (*Log, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var s saved
	if err := gob.NewDecoder(f).Decode(&s); err != nil {
		return nil, fmt.Errorf("read the backup %s: %w", path, err)
	}
	l := New(o)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.records = s.Records
	for i, r := range s.Records {
		if r.Sequence == 0 {
			continue
		}
		r.Time = r.Time.UTC()
		r.Payload = copyOf(r.Payload)
		l.state.records[i] = r
		l.state.streams[r.Stream] = append(l.state.streams[r.Stream], r.Sequence)
	}
	maps.Copy(l.state.bases, s.Bases)
	maps.Copy(l.state.removed, s.Removed)
	maps.Copy(l.state.thinned, s.Thinned)
	for name, c := range s.Checkpoints {
		l.state.checkpoints[name] = checkpoint{c.At, c.Pairs}
	}
	l.tail.Advance(eventlog.Sequence(len(s.Records)))
	return l, nil
}
