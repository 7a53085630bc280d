package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/stele-runtime/stele/executors/spec/usermode"
)

// knownAnnotations are those that a handler may allow.
func knownAnnotations() []string { return usermode.Keys() }

// checkAnnotations refuses what would never have an effect. Keys match exactly
// (CVE-2023-6476).
func (h *Handler) checkAnnotations(name string) error {
	for i, key := range h.AllowedAnnotations {
		if !slices.Contains(knownAnnotations(), key) {
			return refuse(fmt.Sprintf("runtime.handlers.%s.allowed_annotations[%d]", name, i), key,
				"is not an annotation that can be allowed; there are %s", strings.Join(knownAnnotations(), ", "))
		}
	}
	return nil
}

func (r *Runtime) checkMinimums() error {
	var problems []error
	for _, m := range []struct {
		key   string
		value int64
	}{{"runtime.minimum_mappable_uid", r.MinimumMappableUID}, {"runtime.minimum_mappable_gid", r.MinimumMappableGID}} {
		if m.value < -1 || m.value >= math.MaxUint32 {
			problems = append(problems, refuse(m.key, m.value, "is neither an id nor -1"))
		}
	}
	return errors.Join(problems...)
}
