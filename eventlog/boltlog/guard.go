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
// fn must hold nothing that a panic would leave behind, other than a bbolt
// transaction that it closes itself.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: bbolt gave up: %v", eventlog.ErrCorrupt, p)
		}
	}()
	return fn()
}

// structureError says which pages of the file are damaged.
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

// damage returns the faults in the words of the report.
func (e *structureError) damage() []*eventlog.DamageError {
	var all []*eventlog.DamageError
	for _, f := range e.faults {
		all = append(all, &eventlog.DamageError{Page: f.Page, Problem: f.String()})
	}
	return all
}
