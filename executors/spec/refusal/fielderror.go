package refusal

import (
	"fmt"

	"github.com/stele-runtime/stele/actors/fault"
)

// FieldError says which field of a CRI message can't be satisfied, and why. It
// holds a *fault.Fault of its kind, for errors.As.
type FieldError struct {
	// Field is the path of the field in its message, in the words of the CRI's
	// api.proto: "linux.security_context.run_as_user", "mounts[2].host_path".
	Field string
	// Value is the offending value, shortened; empty if there is none or if it
	// may be a secret.
	Value string
	// Reason completes the sentence "<field> …".
	Reason string
	// Kind is fault.Invalid, or fault.Unsupported for what is well-formed but
	// can't be done on this node.
	Kind fault.Kind
}

func (e *FieldError) Error() string {
	if e.Value == "" {
		return e.Field + " " + e.Reason
	}
	return fmt.Sprintf("%s %q %s", e.Field, e.Value, e.Reason)
}

// Unwrap returns the error as the fault that crosses package boundaries.
func (e *FieldError) Unwrap() error {
	return &fault.Fault{Kind: e.Kind, Subject: e.Field, Reason: e.Reason}
}

// maxShown bounds how much of a hostile value goes into an error, in bytes.
const maxShown = 100

// Invalid refuses a value that no node could satisfy.
func Invalid(field string, value any, reason string, args ...any) *FieldError {
	return &FieldError{Field: field, Value: Show(value), Reason: fmt.Sprintf(reason, args...), Kind: fault.Invalid}
}

// Unanswered is returned if a plan needs an answer that it was not given.
func Unanswered(field string) error {
	return fault.New(fault.Internal, "plan container", field, "what it is on the node was not answered")
}

// Unsupported refuses what is well-formed but not to be had on this node.
func Unsupported(field string, value any, reason string, args ...any) *FieldError {
	return &FieldError{Field: field, Value: Show(value), Reason: fmt.Sprintf(reason, args...), Kind: fault.Unsupported}
}

// Show prints a value, shortened: it may be hostile. Nil is nothing.
func Show(value any) string {
	if value == nil {
		return ""
	}
	s := fmt.Sprint(value)
	if len(s) > maxShown {
		return s[:maxShown] + "…"
	}
	return s
}
