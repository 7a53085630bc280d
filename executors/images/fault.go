package images

import (
	"errors"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/registry"
)

// Fault says of which kind a failure of the registry driver is.
func Fault(op, ref string, err error) error {
	for _, k := range []struct {
		cause error
		kind  fault.Kind
	}{
		{registry.ErrInvalidReference, fault.Invalid},
		{registry.ErrNotFound, fault.NotFound},
		{registry.ErrUnauthorized, fault.Unauthorized},
		{registry.ErrRateLimited, fault.RateLimited},
		{registry.ErrPolicy, fault.SignatureRefused},
		{registry.ErrBlocked, fault.Precondition},
		{registry.ErrArtifact, fault.Precondition},
		{registry.ErrStalled, fault.Deadline},
		{registry.ErrDecryption, fault.Precondition},
		{registry.ErrInvalidImage, fault.Precondition},
		{registry.ErrUnavailable, fault.Unavailable},
		{registry.ErrUnsupportedPlatform, fault.Precondition},
	} {
		if errors.Is(err, k.cause) {
			return fault.New(k.kind, op, ref, "%v", err)
		}
	}
	return err
}
