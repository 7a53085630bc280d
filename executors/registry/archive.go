package registry

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	dockerarchive "go.podman.io/image/v5/docker/archive"
	ociarchive "go.podman.io/image/v5/oci/archive"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/pkg/compression"
	imagetypes "go.podman.io/image/v5/types"
)

const (
	// maxIndexSize bounds a layout's index.json, in bytes; the image library has the same
	// bound for a registry's index.
	maxIndexSize = 4 << 20
	// maxArchived bounds the images of an archive.
	maxArchived = 256
	// maxEntries bounds the files of an archive.
	maxEntries = 100_000

	// containerdName is the annotation in an index in which containerd and Docker put an
	// image's full name; the one of the specification has only the tag.
	containerdName = "io.containerd.image.name"
	// localRegistry completes names without a registry, as builds do.
	localRegistry = "localhost"
)

// archive is an opened archive or layout.
type archive struct {
	images []archived
	close  func()
}

// archived is an image in an archive.
type archived struct {
	source imagetypes.ImageReference
	names  []reference.Named // in the archive
}

// openArchive lists the images of a place. The caller must close the archive.
func (j *job) openArchive(where place) (archive, error) {
	var (
		opened archive
		err    error
	)
	switch where.transport {
	case inLayout:
		opened, err = openLayout(where)
	case inLayoutArchive:
		opened, err = openLayoutArchive(where)
	case inDockerArchive:
		opened, err = j.openDockerArchive(where)
	default:
		return archive{}, fmt.Errorf("%w: it is not one of %s, %s, %s", ErrInvalidReference, inLayout, inLayoutArchive, inDockerArchive)
	}
	if err != nil {
		return archive{}, err
	}
	if len(opened.images) > maxArchived {
		opened.close()
		return archive{}, fmt.Errorf("%w: it has %d images, more than %d", ErrInvalidImage, len(opened.images), maxArchived)
	}
	return opened, nil
}

// openLayout opens a directory with the OCI image layout. It follows no links out of it.
func openLayout(where place) (archive, error) {
	root, err := os.OpenRoot(where.path)
	if err != nil {
		return archive{}, missing(err)
	}
	images, err := func() ([]archived, error) {
		file, err := root.Open(imagespec.ImageIndexFile)
		if err != nil {
			return nil, missing(err)
		}
		defer file.Close()
		index, err := readIndex(file)
		if err != nil {
			return nil, err
		}
		reader := layout.NewReaderWithRoot(root)
		return entries(index, where, func(i int) (imagetypes.ImageReference, error) {
			return reader.NewIndexReference(where.path, i)
		})
	}()
	if err != nil {
		return archive{}, errors.Join(err, root.Close())
	}
	return archive{images: images, close: func() { _ = root.Close() }}, nil // nothing was written
}

// openLayoutArchive opens a tar file with an OCI image layout. It is checked first, as the
// library unpacks it into the temporary directory.
func openLayoutArchive(where place) (archive, error) {
	var index *imagespec.Index
	err := walkArchive(where.path, func(header *tar.Header, content io.Reader) error {
		if header.Typeflag != tar.TypeReg && header.Typeflag != tar.TypeDir {
			return fmt.Errorf("%w: %q in it is neither file nor directory", ErrInvalidImage, header.Name)
		}
		if filepath.Clean(header.Name) != imagespec.ImageIndexFile {
			return nil
		}
		if index != nil {
			return fmt.Errorf("%w: it has two of %s", ErrInvalidImage, imagespec.ImageIndexFile)
		}
		read, err := readIndex(content)
		index = &read
		return err
	})
	if err != nil {
		return archive{}, err
	}
	if index == nil {
		return archive{}, fmt.Errorf("%w: it has no %s", ErrInvalidImage, imagespec.ImageIndexFile)
	}
	images, err := entries(*index, where, func(i int) (imagetypes.ImageReference, error) {
		// This transport cannot address entries without a name.
		return ociarchive.NewReference(where.path, index.Manifests[i].Annotations[imagespec.AnnotationRefName])
	})
	return archive{images: images, close: func() {}}, err
}

// openDockerArchive opens a tar file as "docker save" makes it.
func (j *job) openDockerArchive(where place) (archive, error) {
	// Links are harmless: nothing is unpacked, and they are resolved within the archive.
	if err := walkArchive(where.path, func(*tar.Header, io.Reader) error { return nil }); err != nil {
		return archive{}, err
	}
	reader, err := dockerarchive.NewReader(j.system, where.path)
	if err != nil {
		return archive{}, fmt.Errorf("%w: %w", ErrInvalidImage, err)
	}
	opened := archive{close: func() {
		if err := reader.Close(); err != nil {
			j.p.log.Warn("a Docker archive's temporary copy could not be removed", "error", err)
		}
	}}
	listed, err := reader.List()
	if err != nil {
		opened.close()
		return archive{}, fmt.Errorf("%w: %w", ErrInvalidImage, err)
	}
	for _, refs := range listed {
		image := archived{source: refs[0]}
		meant := where.image == ""
		for _, ref := range refs {
			if name := ref.DockerReference(); name != nil {
				image.names = append(image.names, name)
				meant = meant || reference.FamiliarString(name) == where.image || name.String() == where.image
			}
		}
		if meant {
			opened.images = append(opened.images, image)
		}
	}
	if len(opened.images) == 0 {
		opened.close()
		return archive{}, fmt.Errorf("%w: the archive has no image %q", ErrNotFound, where.image)
	}
	return opened, nil
}

// walkArchive reads through a tar file, compressed or not, and refuses names that lead out
// of it.
func walkArchive(path string, visit func(*tar.Header, io.Reader) error) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return missing(err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: it is not a file", ErrInvalidImage)
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	content, compressed, err := compression.AutoDecompress(file)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidImage, err)
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	var stream io.Reader = content
	if !compressed {
		// A file can seek; the decompressor's reader cannot.
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		stream = file
	}
	reader := tar.NewReader(stream)
	for count := 0; ; count++ {
		header, err := reader.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%w: %w", ErrInvalidImage, err)
		case count >= maxEntries:
			return fmt.Errorf("%w: it has more than %d files", ErrInvalidImage, maxEntries)
		case !filepath.IsLocal(strings.TrimSuffix(header.Name, "/")):
			return fmt.Errorf("%w: the name %q in it leads out of it", ErrInvalidImage, header.Name)
		}
		if err := visit(header, reader); err != nil {
			return err
		}
	}
}

func readIndex(content io.Reader) (imagespec.Index, error) {
	var index imagespec.Index
	text, err := io.ReadAll(io.LimitReader(content, maxIndexSize+1))
	switch {
	case err != nil:
		return index, fmt.Errorf("read its index: %w", err)
	case len(text) > maxIndexSize:
		return index, fmt.Errorf("%w: its index has more than %d bytes", ErrInvalidImage, maxIndexSize)
	}
	if err := json.Unmarshal(text, &index); err != nil {
		return index, fmt.Errorf("%w: parse its index: %w", ErrInvalidImage, err)
	}
	return index, nil
}

// entries lists a place's images in an index. Two entries with one digest are one image.
func entries(index imagespec.Index, where place, ref func(i int) (imagetypes.ImageReference, error)) ([]archived, error) {
	var images []archived
	at := map[digest.Digest]int{}
	for i, entry := range index.Manifests {
		if where.image != "" && where.image != entry.Annotations[imagespec.AnnotationRefName] {
			continue
		}
		known, twice := at[entry.Digest]
		if !twice {
			source, err := ref(i)
			if err != nil {
				return nil, fmt.Errorf("%w: entry %d of its index: %w", ErrInvalidImage, i, err)
			}
			known = len(images)
			at[entry.Digest] = known
			images = append(images, archived{source: source})
		}
		if name := nameOf(entry, where.path); name != nil {
			images[known].names = append(images[known].names, name)
		}
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("%w: its index has no image %q", ErrNotFound, where.image)
	}
	return images, nil
}

// nameOf gives the name of an index's entry; nil if it has none. A tag alone belongs
// to the archive's own name.
func nameOf(entry imagespec.Descriptor, path string) reference.Named {
	for _, key := range []string{containerdName, imagespec.AnnotationRefName} {
		text := entry.Annotations[key]
		if text == "" {
			continue
		}
		if !strings.ContainsAny(text, "/:") {
			text = archiveName(path) + ":" + text
		}
		if isShort(text) {
			text = localRegistry + "/" + text
		}
		if name, err := complete(text); err == nil {
			return name
		}
	}
	return nil
}

// archiveName makes a repository's name of a path's last part.
func archiveName(path string) string {
	base := strings.ToLower(filepath.Base(filepath.Clean(path)))
	name, _, _ := strings.Cut(base, ".")
	return name
}

// missing tells a path that doesn't exist from other failures.
func missing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}
