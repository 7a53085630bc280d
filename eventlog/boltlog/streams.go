package boltlog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// Stream implements eventlog.Reader.
func (r *Reader) Stream(ctx context.Context, s eventlog.Stream) (info eventlog.StreamInfo, found bool, err error) {
	recent := r.recent.head(s)
	err = r.view(ctx, func(tx *bolt.Tx) (err error) {
		info, err = streamInfo(tx, s)
		return err
	})
	if err != nil {
		return eventlog.StreamInfo{}, false, fmt.Errorf("look for stream %q: %w", s, err)
	}
	info.Version = max(info.Version, recent)
	return info, info.Version > 0, nil
}

// Streams implements eventlog.Reader.
func (r *Reader) Streams(ctx context.Context, prefix string) iter.Seq2[eventlog.StreamInfo, error] {
	return func(yield func(eventlog.StreamInfo, error) bool) {
		recent := r.recent.streams(prefix) // some are only in the journal
		for next, more := prefix, true; more; {
			var names []string
			err := r.view(ctx, func(tx *bolt.Tx) error {
				names, more = streamNames(tx, prefix, next)
				return nil
			})
			if err != nil {
				yield(eventlog.StreamInfo{}, fmt.Errorf("list streams %q: %w", prefix, err))
				return
			}
			var upTo string
			if more {
				upTo = names[len(names)-1]
				next = upTo + "\x01" // behind all keys of that stream
			}
			n := 0
			for n < len(recent) && (!more || recent[n] <= upTo) {
				n++
			}
			names, recent = append(names, recent[:n]...), recent[n:]
			slices.Sort(names)
			if !r.describe(ctx, slices.Compact(names), yield) {
				return
			}
		}
	}
}

// Bases implements eventlog.Reader.
func (r *Reader) Bases(ctx context.Context) iter.Seq2[eventlog.StreamInfo, error] {
	return func(yield func(eventlog.StreamInfo, error) bool) {
		for next, more := "", true; more; {
			var names []string
			err := r.view(ctx, func(tx *bolt.Tx) error {
				names, more = baseNames(tx, next)
				return nil
			})
			if err != nil {
				yield(eventlog.StreamInfo{}, fmt.Errorf("list the bases of streams: %w", err))
				return
			}
			if more {
				next = names[len(names)-1] + "\x00"
			}
			if !r.describe(ctx, names, yield) {
				return
			}
		}
	}
}

// baseNames returns the names from one on of streams with a base, ascending; more reports
// that there are others.
func baseNames(tx *bolt.Tx, from string) (names []string, more bool) {
	bases := tx.Bucket(bucketBases)
	if bases == nil {
		return nil, false
	}
	cursor := bases.Cursor()
	for k, _ := cursor.Seek([]byte(from)); k != nil; k, _ = cursor.Next() {
		if len(names) == chunkRecords {
			return names, true
		}
		names = append(names, string(k))
	}
	return names, false
}

// describe yields the streams, and reports whether the consumer wants more.
func (r *Reader) describe(ctx context.Context, names []string, yield func(eventlog.StreamInfo, error) bool) bool {
	for _, name := range names {
		info, found, err := r.Stream(ctx, eventlog.Stream(name))
		_, damage := errors.AsType[*eventlog.DamageError](err)
		switch {
		case err == nil && !found: // gone meanwhile
		case !yield(info, err), err != nil && !damage:
			return false
		}
	}
	return true
}

// streamNames returns the names from one on of streams with a prefix that are in the index or
// have a base, ascending; more reports that there are others.
func streamNames(tx *bolt.Tx, prefix, from string) (names []string, more bool) {
	index, bases := tx.Bucket(bucketIndex).Cursor(), (*bolt.Cursor)(nil)
	var base []byte
	if bucket := tx.Bucket(bucketBases); bucket != nil {
		bases = bucket.Cursor()
		base, _ = bases.Seek([]byte(from))
	}
	k, _ := index.Seek([]byte(from))
	for len(names) < chunkRecords {
		name := ""
		if s, _, ok := parseIndexKey(k); ok {
			name = string(s)
		} else if k != nil {
			k, _ = index.Next() // a damaged key
			continue
		}
		if base != nil && (name == "" || string(base) < name) {
			name = string(base)
		}
		if name == "" || !strings.HasPrefix(name, prefix) {
			return names, false
		}
		names = append(names, name)
		k, _ = index.Seek(indexKey(eventlog.Stream(name), ^eventlog.Version(0)))
		if string(base) == name {
			base, _ = bases.Next()
		}
	}
	return names, true
}

// streams returns the names with a prefix, ascending.
func (r *recent) streams(prefix string) (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range maps.Keys(r.heads) {
		if strings.HasPrefix(string(s), prefix) {
			names = append(names, string(s))
		}
	}
	slices.Sort(names)
	return names
}
