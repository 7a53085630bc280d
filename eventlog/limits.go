package eventlog

import (
	"fmt"
)

// Limits, so that no writer can make a record that a reader must refuse.
const (
	// MaxName bounds, in bytes, the names of streams, types, commands, traces
	// and snapshots. A container's stream needs 74.
	MaxName = 255

	// MaxPayload bounds the payload of one entry, in bytes. The first event
	// of a container carries the CRI's whole request, and the kubelet sends
	// messages of up to 16 MiB.
	MaxPayload = 32 << 20

	// MaxEntries bounds the entries of one append.
	MaxEntries = 1024

	// MaxAppend bounds the payloads of one append together, in bytes.
	MaxAppend = 64 << 20

	// MaxSnapshot bounds the payload of a snapshot, in bytes.
	MaxSnapshot = 256 << 20
)

// Check returns an ErrInvalid that names the field if the append breaks a
// rule of this package. Every log checks; callers need not.
func (a Append) Check() error {
	if err := checkName("stream", string(a.Stream)); err != nil {
		return err
	}
	if len(a.Entries) == 0 || len(a.Entries) > MaxEntries {
		return fmt.Errorf("%w: append to %q: %d entries, want 1 to %d", ErrInvalid, a.Stream, len(a.Entries), MaxEntries)
	}
	total := 0
	for i, e := range a.Entries {
		if err := e.check(); err != nil {
			return fmt.Errorf("append to %q: entry %d: %w", a.Stream, i, err)
		}
		total += len(e.Payload)
	}
	if total > MaxAppend {
		return fmt.Errorf("%w: append to %q: %d bytes of payload, want at most %d", ErrInvalid, a.Stream, total, MaxAppend)
	}
	return nil
}

func (e Entry) check() error {
	if err := checkName("type", e.Type); err != nil {
		return err
	}
	if e.Cause.Command != "" {
		if err := checkName("cause.command", e.Cause.Command); err != nil {
			return err
		}
	}
	if e.Cause.Trace != "" {
		if err := checkName("cause.trace", e.Cause.Trace); err != nil {
			return err
		}
	}
	if len(e.Payload) > MaxPayload {
		return fmt.Errorf("%w: payload has %d bytes, want at most %d", ErrInvalid, len(e.Payload), MaxPayload)
	}
	return nil
}

// Check returns an ErrInvalid that names the field if the snapshot or its
// name break a rule of this package. Every log checks; callers need not.
func (s Snapshot) Check(name string) error {
	if err := checkName("snapshot name", name); err != nil {
		return err
	}
	if len(s.Payload) > MaxSnapshot {
		return fmt.Errorf("%w: snapshot %q has %d bytes, want at most %d", ErrInvalid, name, len(s.Payload), MaxSnapshot)
	}
	return nil
}

// checkName accepts 1 to MaxName bytes of printable ASCII without spaces:
// such names can be keys, can be printed anywhere, and have one spelling.
func checkName(field, name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("%w: %s has %d bytes, want 1 to %d", ErrInvalid, field, len(name), MaxName)
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return fmt.Errorf("%w: %s %q: byte %d is not printable ASCII", ErrInvalid, field, name, i)
		}
	}
	return nil
}
