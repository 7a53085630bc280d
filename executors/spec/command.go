package spec

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// command combines what the pod says with what the image says: a command
// replaces the image's entrypoint and its cmd, args replace only the cmd.
func (b *builder) command() error {
	c := b.in.Container
	var args []string
	switch {
	case len(c.Command) > 0:
		args = append(append(args, c.Command...), c.Args...)
	case len(c.Args) > 0:
		args = append(append(args, b.image.Entrypoint...), c.Args...)
	default:
		args = append(append(args, b.image.Entrypoint...), b.image.Cmd...)
	}
	if len(args) == 0 || args[0] == "" {
		return invalid("command", nil, "is empty, and the image has neither entrypoint nor cmd")
	}
	for _, arg := range args {
		if err := checkText("command", arg); err != nil {
			return err
		}
	}
	b.spec.Process.Args = args
	return nil
}

// workingDir makes the working directory in the root file system if it isn't
// there, as builders of images expect.
func (b *builder) workingDir() error {
	field, dir := "working_dir", b.in.Container.WorkingDir
	if dir == "" {
		field, dir = "the image's working directory", b.image.WorkingDir
	}
	if err := checkText(field, dir); err != nil {
		return err
	}
	dir = path.Clean("/" + dir)
	b.spec.Process.Cwd = dir
	if dir == "/" {
		return nil
	}
	for _, m := range b.spec.Mounts {
		if covers(m.Destination, dir) && !isKernelDir(m.Destination) {
			// What is there is the volume's affair; the runtime looks at it.
			return nil
		}
	}
	resolved, err := securejoin.SecureJoin(b.in.Rootfs, dir)
	if err != nil {
		return invalid(field, dir, "can't be resolved in the image: %v", err)
	}
	inside := path.Clean("/" + strings.TrimPrefix(resolved, path.Clean(b.in.Rootfs)))
	if covers("/proc", inside) || covers("/dev/fd", inside) {
		// Descriptors that a runtime had open were a way to the node's file
		// system (CVE-2024-21626).
		return invalid(field, dir, "leads to %s, which is not a place to work in", inside)
	}
	switch err := pathrs.MkdirAll(b.in.Rootfs, dir, 0o755); {
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, fs.ErrExist):
		return invalid(field, dir, "is not a directory in the image")
	case err != nil:
		return invalid(field, dir, "can't be made in the image: %v", err)
	}
	return nil
}

// covers reports whether path is dir or below it. Both are clean.
func covers(dir, path string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// isKernelDir reports whether a mount shows the kernel's state: nothing is made
// there, and nothing is expected to be there before the mount.
func isKernelDir(dest string) bool {
	return covers("/proc", dest) || covers("/sys", dest) || covers("/dev", dest)
}
