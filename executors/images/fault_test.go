package images

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/registry"
)

func TestFault(t *testing.T) {
	for cause, kind := range map[error]fault.Kind{
		registry.ErrInvalidReference: fault.Invalid, registry.ErrNotFound: fault.NotFound, registry.ErrUnauthorized: fault.Unauthorized,
		registry.ErrRateLimited: fault.RateLimited, registry.ErrPolicy: fault.SignatureRefused, registry.ErrUnavailable: fault.Unavailable,
		registry.ErrUnsupportedPlatform: fault.Precondition, errors.New("it is broken"): fault.Internal,
	} {
		err := Fault("pull image", "web:1", fmt.Errorf("pull: %w: because", cause))
		if fault.KindOf(err) != kind || !strings.Contains(err.Error(), "because") {
			t.Errorf("%v becomes %v", cause, err)
		}
	}
}
