package boltlog

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/internal/boltpages"
)

// guard calls fn and turns a panic into an ErrCorrupt. bbolt panics when it
// meets a page that is not what it expects, and touching a page of the map
// that the file no longer has, or that the disk cannot read, is a fault.
//
// A panic must leave nothing behind that fn holds, except a bbolt transaction
// that the caller closes.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: bbolt gave up: %v", eventlog.ErrCorrupt, p)
		}
	}()
	return fn()
}

// structureError names the damaged pages of the file.
type structureError struct {
	faults []boltpages.Fault
}

func (e *structureError) Error() string {
	const most = 5
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %d pages are damaged", eventlog.ErrCorrupt, len(e.faults))
	for i, f := range e.faults {
		if i == most {
			b.WriteString("; …")
			break
		}
		fmt.Fprintf(&b, "; %v", f)
	}
	return b.String()
}

func (e *structureError) Is(target error) bool { return target == eventlog.ErrCorrupt }

// damage returns the faults as the report has them.
func (e *structureError) damage() []*eventlog.DamageError {
	var all []*eventlog.DamageError
	for _, f := range e.faults {
		all = append(all, &eventlog.DamageError{Page: f.Page, Problem: f.String()})
	}
	return all
}
