package eventlog

import (
	"fmt"
)

// Limits, so that no writer can make a record that a reader must refuse.
const (
	// MaxName bounds, in bytes, the names of streams, types, commands,
	// traces, checkpoints and their keys. A container's stream needs 74.
	MaxName = 255

	// MaxPayload bounds the payload of one entry, in bytes. The first event
	// of a container carries the CRI's whole request, and the kubelet sends
	// messages of up to 16 MiB.
	MaxPayload = 32 << 20

	// MaxEntries bounds the entries of one append.
	MaxEntries = 1024

	// MaxAppend bounds the payloads of one append together, in bytes.
	MaxAppend = 64 << 20

	// MaxValue bounds one value of a checkpoint, in bytes.
	MaxValue = 64 << 20

	// MaxDelta bounds the keys and values of one delta together, in bytes.
	MaxDelta = 256 << 20

	// MaxThin bounds the records that one Thin removes.
	MaxThin = 8192

	// CompactRoom is the free space in bytes that a compaction needs beyond what the log
	// holds (Usage: Bytes without Free). Half of it stays free all the time, so that
	// appends do not meet a full disk because of it.
	CompactRoom = 64 << 20

	// MaxRule bounds the name of a rule, in bytes. It is made of printable ASCII without
	// spaces. Each removed run keeps the names of its rules, so there should be few.
	MaxRule = 32
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

// Check returns an ErrInvalid that names the field if the delta or the checkpoint's
// name break a rule of this package. Every log checks; callers need not.
func (d Delta) Check(name string) error {
	if err := CheckCheckpointName(name); err != nil {
		return err
	}
	total := 0
	for key, value := range d.Put {
		if err := checkName("key", key); err != nil {
			return fmt.Errorf("checkpoint %q: %w", name, err)
		}
		if len(value) > MaxValue {
			return fmt.Errorf("%w: checkpoint %q: the value of %q has %d bytes, want at most %d", ErrInvalid, name, key, len(value), MaxValue)
		}
		total += len(key) + len(value)
	}
	for _, key := range d.Delete {
		if err := checkName("key", key); err != nil {
			return fmt.Errorf("checkpoint %q: %w", name, err)
		}
		if _, both := d.Put[key]; both {
			return fmt.Errorf("%w: checkpoint %q: %q is in both Put and Delete", ErrInvalid, name, key)
		}
		total += len(key)
	}
	switch {
	case total > MaxDelta:
		return fmt.Errorf("%w: checkpoint %q: the delta has %d bytes, want at most %d", ErrInvalid, name, total, MaxDelta)
	case d.Replace && (len(d.Delete) > 0 || d.After != 0):
		return fmt.Errorf("%w: checkpoint %q: Replace excludes Delete and After", ErrInvalid, name)
	case !d.Replace && d.Sequence < d.After:
		return fmt.Errorf("%w: checkpoint %q goes back from record %d to %d", ErrInvalid, name, d.After, d.Sequence)
	}
	return nil
}

// Check returns an ErrInvalid that names the field if the trim breaks a rule of this
// package. Every log checks; callers need not.
func (t Trim) Check() error {
	if err := checkName("stream", string(t.Stream)); err != nil {
		return err
	}
	if err := checkRule(t.Rule); err != nil {
		return fmt.Errorf("trim %q: %w", t.Stream, err)
	}
	switch {
	case t.Through == 0:
		return fmt.Errorf("%w: trim %q: no version", ErrInvalid, t.Stream)
	case len(t.State) > MaxValue:
		return fmt.Errorf("%w: trim %q: the state has %d bytes, want at most %d", ErrInvalid, t.Stream, len(t.State), MaxValue)
	case t.Whole && (len(t.State) > 0 || t.Schema != 0):
		return fmt.Errorf("%w: trim %q: a whole stream leaves no state", ErrInvalid, t.Stream)
	}
	return nil
}

// CheckAt checks the trim against its stream, which does not exist if it has no version.
// Every log checks; callers need not.
func (t Trim) CheckAt(s StreamInfo) error {
	switch {
	case t.Whole && t.Through != s.Version:
		return &WrongVersionError{Stream: t.Stream, Expected: t.Through, Actual: s.Version}
	case t.Through > s.Version:
		return fmt.Errorf("%w: trim %q through version %d: it is at %d", ErrInvalid, t.Stream, t.Through, s.Version)
	case !t.Whole && t.Through <= s.Base.Version:
		return fmt.Errorf("%w: trim %q through version %d: it is already trimmed through %d", ErrInvalid, t.Stream, t.Through, s.Base.Version)
	}
	return nil
}

// NoRecord is the error for a trim through a version that was removed already, by Thin.
func (t Trim) NoRecord() error {
	return fmt.Errorf("%w: trim %q through version %d: that was removed", ErrInvalid, t.Stream, t.Through)
}

// Check returns an ErrInvalid that names the field if the thinning breaks a rule of this
// package. Every log checks; callers need not.
func (t Thin) Check() error {
	if err := checkRule(t.Rule); err != nil {
		return err
	}
	if len(t.Sequences) == 0 || len(t.Sequences) > MaxThin {
		return fmt.Errorf("%w: %d sequences, want 1 to %d", ErrInvalid, len(t.Sequences), MaxThin)
	}
	before := Sequence(0)
	for _, sequence := range t.Sequences {
		if sequence <= before {
			return fmt.Errorf("%w: sequence %d comes after %d", ErrInvalid, sequence, before)
		}
		before = sequence
	}
	return nil
}

// CheckAt checks that a record which is to be removed is not the last of its stream. Every
// log checks; callers need not.
func (t Thin) CheckAt(r Record, s StreamInfo) error {
	if r.Version >= s.Version {
		return fmt.Errorf("%w: record %d is the last one of stream %q", ErrInvalid, r.Sequence, r.Stream)
	}
	return nil
}

// CheckThrough returns the error for a sequence that the log has not reached.
func (t Thin) CheckThrough(last Sequence) error {
	if highest := t.Sequences[len(t.Sequences)-1]; highest > last {
		return fmt.Errorf("%w: record %d does not exist, the last one is %d", ErrInvalid, highest, last)
	}
	return nil
}

// checkRule accepts a name of 1 to MaxRule bytes.
func checkRule(rule string) error {
	if len(rule) > MaxRule {
		return fmt.Errorf("%w: rule has %d bytes, want 1 to %d", ErrInvalid, len(rule), MaxRule)
	}
	return checkName("rule", rule)
}

// CheckCheckpointName returns an ErrInvalid if the name cannot be that of a checkpoint.
func CheckCheckpointName(name string) error { return checkName("checkpoint name", name) }

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
