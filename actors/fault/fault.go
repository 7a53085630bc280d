// Package fault holds the one error type that crosses package boundaries in
// Stele. Machines and drivers say what went wrong in its terms; only
// cri/errors.go knows which gRPC code each kind becomes.
package fault

import (
	"errors"
	"fmt"
)

// Kind classifies a failure by what the caller can do about it.
type Kind string

const (
	// Internal is a failure that the caller neither caused nor can fix.
	Internal Kind = "internal"
	// Invalid means that the request can never succeed unchanged.
	Invalid Kind = "invalid"
	// NotFound means that what the request names does not exist.
	NotFound Kind = "not found"
	// Exists means that the request's name belongs to something else.
	Exists Kind = "exists"
	// Precondition means that what the request names is in the wrong state.
	Precondition Kind = "precondition"
	// Unavailable means that the same request may succeed later.
	Unavailable Kind = "unavailable"
	// Deadline means that a step did not end in time.
	Deadline Kind = "deadline"
	// Unauthorized means that a registry refused the credentials.
	Unauthorized Kind = "unauthorized"
	// RateLimited means that a registry asked to slow down.
	RateLimited Kind = "rate limited"
	// Unsupported means that this node cannot do what was requested.
	Unsupported Kind = "unsupported"
	// SignatureRefused means that the image trust policy refused an image.
	SignatureRefused Kind = "signature refused"
	// Interrupted means that whatever did the work (the daemon, the container, the
	// node) ended first.
	Interrupted Kind = "interrupted"
)

// Fault is a failure as events record it and callers see it. The zero Fault means that
// nothing failed.
type Fault struct {
	// Op is what was tried, in the words of the effect or the call ("attach network").
	Op string
	// Kind is what the caller can do about it.
	Kind Kind
	// Subject is what it was tried on: an id, a reference or the name of a field.
	Subject string
	// Reason is the cause in words; it never holds a secret.
	Reason string
}

// New returns a fault of the given kind.
func New(kind Kind, op, subject, format string, args ...any) *Fault {
	return &Fault{Op: op, Kind: kind, Subject: subject, Reason: fmt.Sprintf(format, args...)}
}

// Error says what was tried, on what, and why it failed.
func (f *Fault) Error() string {
	s := f.Op
	if f.Subject != "" {
		s += " " + f.Subject
	}
	if s == "" {
		return f.Reason
	}
	return s + ": " + f.Reason
}

// Failed reports whether f holds a failure.
func (f Fault) Failed() bool { return f != Fault{} }

// Err returns f as an error, or nil when nothing failed.
func (f Fault) Err() error {
	if !f.Failed() {
		return nil
	}
	return &f
}

// From describes err as a fault of op on subject. A Fault anywhere in err's
// chain keeps its kind; any other error is Internal. From(nil) is the zero
// Fault.
func From(err error, op, subject string) Fault {
	if err == nil {
		return Fault{}
	}
	kind := Internal
	if f, ok := errors.AsType[*Fault](err); ok {
		kind = f.Kind
		if f.Op == op && f.Subject == subject {
			return *f
		}
	} else if t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && t.Timeout() { // a context's deadline, or one of the network
		kind = Deadline
	}
	return Fault{Op: op, Kind: kind, Subject: subject, Reason: err.Error()}
}

// KindOf returns the kind of the first Fault in err's chain, Internal if there
// is none.
func KindOf(err error) Kind {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f.Kind
	}
	return Internal
}
