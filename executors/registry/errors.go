package registry

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/signature"

	"github.com/stele-runtime/stele/actors/redact"
)

// The kinds of failure that a caller can act on. A failure of another kind (a full
// disk, an unreadable policy) is an *Error without a Kind.
var (
	// ErrInvalidReference: the name cannot be one, or stands for no registry.
	ErrInvalidReference = errors.New("invalid image reference")
	// ErrNotFound: the registry has no such repository, tag or digest, or the archive no
	// such image.
	ErrNotFound = errors.New("image not found")
	// ErrUnauthorized: the registry refuses the credentials. Registries say the same of
	// repositories that don't exist.
	ErrUnauthorized = errors.New("not authorized by the registry")
	// ErrRateLimited: the registry answers 429.
	ErrRateLimited = errors.New("rate limited by the registry")
	// ErrPolicy: the signature policy rejects the image.
	ErrPolicy = errors.New("rejected by the signature policy")
	// ErrUnsupportedPlatform: the image is for another operating system, or an index has
	// nothing for this machine.
	ErrUnsupportedPlatform = errors.New("image is not for this platform")
	// ErrBlocked: registries.conf forbids the registry.
	ErrBlocked = errors.New("registry is blocked")
	// ErrUnavailable: the registry cannot be reached, or fails.
	ErrUnavailable = errors.New("registry is unavailable")
	// ErrStalled: nothing came from the registry for Options.StallTimeout.
	ErrStalled = errors.New("stalled")
	// ErrDecryption: the image's layers are encrypted, and cannot be decrypted with
	// the keys that are configured.
	ErrDecryption = errors.New("image cannot be decrypted")
	// ErrArtifact: it is an artifact and no image, which PullArtifact fetches.
	ErrArtifact = errors.New("artifact and no image")
	// ErrInvalidImage: the registry or archive has no valid image there, or one that breaks
	// the bounds, or does not match its digest.
	ErrInvalidImage = errors.New("image is invalid")
)

// kinds are all of them.
func kinds() []error {
	return []error{
		ErrInvalidReference, ErrNotFound, ErrUnauthorized, ErrRateLimited, ErrPolicy, ErrUnsupportedPlatform,
		ErrBlocked, ErrUnavailable, ErrStalled, ErrDecryption, ErrArtifact, ErrInvalidImage,
	}
}

// Error is why an image was not pulled, loaded or inspected. It has no credentials: the
// cause is kept as text only, and they are removed from it. errors.Is finds the Kind, or
// context.Canceled or DeadlineExceeded when the caller gave up.
type Error struct {
	// Op is what was tried: "pull", "load" or "inspect".
	Op string
	// Ref is the image, or the archive, as the user named it.
	Ref string
	// Kind is one of the errors above, or nil.
	Kind error
	// Detail is the cause.
	Detail string

	ended error // context.Canceled or DeadlineExceeded, if the caller gave up
}

// maxDetail bounds an error's text, in bytes: registries and archives write a part of it,
// and it ends up in logs and events.
const maxDetail = 4096

type failure struct {
	op, subject string
	cause       error
	ended       error // the caller's context's, if it has ended
	secrets     redact.Secrets
}

func newError(f failure) *Error {
	e := &Error{Op: f.op, Ref: cut(f.secrets.Text(f.subject)), Detail: cut(f.secrets.Text(f.cause.Error())), ended: f.ended}
	if f.ended == nil {
		e.Kind = kindOf(f.cause)
	}
	return e
}

// cut bounds a text that strangers wrote in part.
func cut(text string) string {
	if len(text) <= maxDetail {
		return text
	}
	return strings.ToValidUTF8(text[:maxDetail], "") + "…"
}

func (e *Error) Error() string {
	if e.Kind == nil || strings.Contains(e.Detail, e.Kind.Error()) {
		return fmt.Sprintf("%s %s: %s", e.Op, e.Ref, e.Detail)
	}
	return fmt.Sprintf("%s %s: %v: %s", e.Op, e.Ref, e.Kind, e.Detail)
}

// Unwrap is for errors.Is.
func (e *Error) Unwrap() []error {
	var is []error
	if e.Kind != nil {
		is = append(is, e.Kind)
	}
	if e.ended != nil {
		is = append(is, e.ended)
	}
	return is
}

var statusInText = regexp.MustCompile(`StatusCode: (\d{3}), "`)

// invalid matches the errors for content that doesn't match its digest, is too big or is no
// archive; the library has no types for them.
var invalid = regexp.MustCompile(`Digest did not match|does not match provided manifest digest|exceeded maximum allowed size|unpacking failed(?: \(error: exit status \d+; output)?: archive/tar: `)

// kindOf returns the kind of an error of the image library. The HTTP status beats the codes
// in the body, which registries use as they like.
func kindOf(err error) error {
	for _, kind := range kinds() {
		if errors.Is(err, kind) {
			return kind
		}
	}
	var (
		requirement  signature.PolicyRequirementError
		badSignature signature.InvalidSignatureError
		credentials  docker.ErrUnauthorizedForCredentials
		status       docker.UnexpectedHTTPStatusError
	)
	switch {
	case errors.As(err, &requirement), errors.As(err, &badSignature):
		return ErrPolicy
	case errors.As(err, &credentials):
		return ErrUnauthorized
	case errors.Is(err, docker.ErrTooManyRequests):
		return ErrRateLimited
	case errors.As(err, &status):
		return kindOfStatus(status.StatusCode)
	}
	if kind := kindOfCode(err); kind != nil {
		return kind
	}
	// If the library doesn't understand an answer's body, the status is in a type that it
	// doesn't export, and in the text before any of the body.
	if found := statusInText.FindStringSubmatch(err.Error()); found != nil {
		status, _ := strconv.Atoi(found[1])
		return kindOfStatus(status)
	}
	if invalid.MatchString(err.Error()) {
		return ErrInvalidImage
	}
	var network net.Error
	if errors.As(err, &network) && !isErrno(network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		return ErrUnavailable
	}
	return nil
}

// isErrno reports whether an error that looks like the network's is a bare errno, such
// as a full disk's, which has all methods of a net.Error, too.
func isErrno(err net.Error) bool {
	_, is := any(err).(syscall.Errno)
	return is
}

func kindOfStatus(status int) error {
	switch {
	case status == http.StatusNotFound:
		return ErrNotFound
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return ErrUnauthorized
	case status == http.StatusTooManyRequests:
		return ErrRateLimited
	case status >= http.StatusInternalServerError:
		return ErrUnavailable
	}
	return nil
}

// kindOfCode reads the error code in the body of a registry's answer.
func kindOfCode(err error) error {
	var coder errcode.ErrorCoder
	if !errors.As(err, &coder) {
		return nil
	}
	switch code := coder.ErrorCode(); code {
	case v2.ErrorCodeManifestUnknown, v2.ErrorCodeNameUnknown, v2.ErrorCodeBlobUnknown:
		return ErrNotFound
	case errcode.ErrorCodeUnauthorized, errcode.ErrorCodeDenied:
		return ErrUnauthorized
	case errcode.ErrorCodeTooManyRequests:
		return ErrRateLimited
	case errcode.ErrorCodeUnavailable:
		return ErrUnavailable
	case errcode.ErrorCodeUnknown:
		// The library also makes this of unknown codes.
		if strings.Contains(strings.ToLower(err.Error()), "not found") {
			return ErrNotFound
		}
		return kindOfStatus(code.Descriptor().HTTPStatusCode)
	}
	return nil
}
