package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/opencontainers/selinux/go-selinux/label"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/spec"
)

// Make carries out steps in their order, until one fails. The error is a
// spec.FieldError if a field of the request, or something in the image, is to blame.
func Make(steps []spec.Step) error {
	for _, s := range steps {
		if err := carryOut(s); err != nil {
			return err
		}
	}
	return nil
}

func carryOut(step spec.Step) error {
	switch s := step.(type) {
	case spec.MakeHostDir:
		if err := os.MkdirAll(s.Path, 0o755); err != nil {
			return refused(s.Field, s.Path, "doesn't exist and can't be made: %v", err)
		}
		return nil
	case spec.Relabel:
		if err := label.Relabel(s.Path, s.Label, false); err != nil {
			return fmt.Errorf("relabel %s as %s: %w", s.Path, s.Label, err)
		}
		return nil
	case spec.FillVolume:
		return fill(s.Rootfs, s.Path, s.Dir)
	case spec.MakeWorkingDir:
		return makeWorkingDir(s)
	}
	panic(fmt.Sprintf("no way to carry out %T", step)) // the set of steps is sealed
}

func makeWorkingDir(s spec.MakeWorkingDir) error {
	switch err := pathrs.MkdirAll(s.Rootfs, s.Path, 0o755); {
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, fs.ErrExist):
		return refused(s.Field, s.Path, "is not a directory in the image")
	case err != nil:
		return refused(s.Field, s.Path, "can't be made in the image: %v", err)
	}
	return nil
}

func refused(field, path, reason string, args ...any) error {
	return &spec.FieldError{Field: field, Value: path, Reason: fmt.Sprintf(reason, args...), Kind: fault.Invalid}
}
