package config

import (
	"errors"
	"math"
)

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
