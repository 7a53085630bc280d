package volumes

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/apparmor"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// Make carries out steps in their order, until one fails. The error is a
// refusal.FieldError if a field of the request, or something in the image, is to blame.
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
		return relabel(s)
	case spec.LoadAppArmor:
		return apparmor.Load(s.Profile)
	case spec.FillVolume:
		return fill(s)
	case spec.CopyOfNode:
		return copyOfNode(s)
	case spec.MakeMtab:
		return makeMtab(s)
	case spec.SetTimezone:
		return setTimezone(s)
	case spec.AppendLine:
		return appendLine(s)
	case spec.MakeWorkingDir:
		return makeWorkingDir(s)
	}
	panic(fmt.Sprintf("no way to carry out %T", step)) // the set of steps is sealed
}

// relabel leaves alone what is on a file system that has no labels of its own.
func relabel(s spec.Relabel) error {
	if s.Unless && hasLabel(s.Path, s.Label) {
		return nil
	}
	if err := label.Relabel(s.Path, s.Label, false); err != nil && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("relabel %s as %s: %w", s.Path, s.Label, err)
	}
	return nil
}

// hasLabel compares the labels as the kernel writes them.
func hasLabel(path, label string) bool {
	want, err := selinux.CanonicalizeContext(label)
	if err != nil {
		return false
	}
	has, err := selinux.FileLabel(path)
	return err == nil && has == want
}

// appendLine adds a line in one write, so that a kill leaves all of it or nothing.
func appendLine(s spec.AppendLine) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("add a line to %s in the image: %w", s.Path, err)
		}
	}()
	handle, err := pathrs.OpenInRoot(s.Rootfs, s.Path)
	if err != nil {
		return err
	}
	defer handle.Close()
	// Look before opening for real: a FIFO would block, a device would act.
	info, err := handle.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	file, err := pathrs.Reopen(handle, unix.O_RDWR|unix.O_APPEND|unix.O_NOCTTY|unix.O_CLOEXEC)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	// The last line may lack its end. A repeated step finds its line there.
	tail := make([]byte, len(s.Line)+2)
	n, err := file.ReadAt(tail, max(0, info.Size()-int64(len(tail))))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	before := "\n" + string(tail[:n])
	if strings.HasSuffix(before, "\n"+s.Line+"\n") {
		return nil
	}
	line := s.Line + "\n"
	if !strings.HasSuffix(before, "\n") {
		line = "\n" + line
	}
	_, err = file.WriteString(line)
	return err
}

// makeWorkingDir gives what it makes on the way to the path to its owner, and nothing that the
// image has. What it has made and not given yet has no permissions at all, so that a second try
// finds it.
func makeWorkingDir(s spec.MakeWorkingDir) error {
	switch err := pathrs.MkdirAll(s.Rootfs, s.Path, 0); {
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, fs.ErrExist):
		return refused(s.Field, s.Path, "is not a directory in the image")
	case err != nil:
		return refused(s.Field, s.Path, "can't be made in the image: %v", err)
	}
	for dir := s.Path; dir != "/" && dir != "."; dir = path.Dir(dir) {
		if err := giveAway(s, dir); err != nil {
			return fmt.Errorf("own %s in the image: %w", dir, err)
		}
	}
	return nil
}

func giveAway(s spec.MakeWorkingDir, dir string) (err error) {
	handle, err := pathrs.OpenInRoot(s.Rootfs, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, handle.Close()) }()
	var st unix.Stat_t
	if err := unix.Fstat(int(handle.Fd()), &st); err != nil || st.Uid != 0 || st.Mode&0o777 != 0 {
		return err
	}
	if err := unix.Fchownat(int(handle.Fd()), "", int(s.UID), int(s.GID), unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	// The link in /proc leads to the very directory that was opened.
	return os.Chmod(fmt.Sprintf("/proc/self/fd/%d", handle.Fd()), 0o755)
}

func refused(field, path, reason string, args ...any) error {
	return &refusal.FieldError{Field: field, Value: path, Reason: fmt.Sprintf(reason, args...), Kind: fault.Invalid}
}
