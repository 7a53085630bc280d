package cri

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	crierrors "k8s.io/cri-api/pkg/errors"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/cri/streaming"
)

// Status returns err as a gRPC status error, nil for nil. It is the one place that knows
// which code a kind of failure becomes.
func Status(err error) error {
	if err == nil {
		return nil
	}
	if _, is := status.FromError(err); is {
		return err
	}
	return status.Error(codeOf(err), bounded(redact.Text(err.Error())))
}

// maxMessage bounds an error's message, in bytes: it may repeat what a hostile request says.
const maxMessage = 4096

// bounded cuts a message in the middle, because its end has the reason.
func bounded(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	const half = maxMessage / 2
	return strings.ToValidUTF8(message[:half], "") + " … " + strings.ToValidUTF8(message[len(message)-half:], "")
}

func codeOf(err error) codes.Code {
	if f, ok := errors.AsType[*fault.Fault](err); ok {
		return codeOfKind(f.Kind)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	}
	return codes.Internal
}

func codeOfKind(k fault.Kind) codes.Code {
	switch k {
	case fault.Invalid:
		return codes.InvalidArgument
	case fault.NotFound:
		return codes.NotFound
	case fault.Exists:
		return codes.AlreadyExists
	case fault.Precondition:
		return codes.FailedPrecondition
	case fault.Unavailable, fault.Interrupted:
		return codes.Unavailable
	case fault.Deadline:
		return codes.DeadlineExceeded
	case fault.Unauthorized:
		return codes.Unauthenticated
	case fault.RateLimited:
		return codes.ResourceExhausted
	case fault.Unsupported:
		return codes.Unimplemented
	case fault.SignatureRefused:
		return codes.PermissionDenied
	case fault.Internal:
	}
	return codes.Internal
}

// invalid is the error of a field with an unacceptable value.
func invalid(field, format string, args ...any) error {
	return fault.New(fault.Invalid, "", "", field+": "+format, args...)
}

// exhausted is the error of an answer that does not fit into what is allowed for it.
func exhausted(format string, args ...any) error {
	return status.Errorf(codes.ResourceExhausted, format, args...)
}

// pullError prefixes the message with the words by which the kubelet distinguishes
// failed pulls (k8s.io/cri-api/pkg/errors).
func pullError(err error) error {
	var word error
	f, is := errors.AsType[*fault.Fault](err)
	if !is || f.Op != "pull image" {
		return err // not the registry's
	}
	switch f.Kind {
	case fault.SignatureRefused:
		word = crierrors.ErrSignatureValidationFailed
	case fault.Unavailable, fault.Deadline:
		word = crierrors.ErrRegistryUnavailable
	default: // The kubelet has no word for the others.
		return err
	}
	return status.Errorf(codeOf(err), "%v: %s", word, bounded(err.Error()))
}

// createError makes the message of a failed creation begin with the word by which the
// kubelet knows the failure.
func createError(err error) error {
	f, is := errors.AsType[*fault.Fault](err)
	if !is {
		return err
	}
	var word error
	switch {
	case strings.Contains(f.Reason, crierrors.ErrImageVolumeMountFailed.Error()):
		word = crierrors.ErrImageVolumeMountFailed
	case f.Kind == fault.SignatureRefused:
		word = crierrors.ErrSignatureValidationFailed
	default:
		return err
	}
	return status.Errorf(codeOf(err), "%v: %s", word, bounded(redact.Text(err.Error())))
}

// streamsRefused is the error of the streaming server for a new URL.
func streamsRefused(err error) error {
	if errors.Is(err, streaming.ErrTooMany) {
		return fault.New(fault.RateLimited, "offer streams", "", "%v", err)
	}
	return fault.New(fault.Unavailable, "offer streams", "", "%v", err)
}
