package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// epoch is the time of every file and image, so that digests stay the same.
var epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// Format is an image's manifest format.
type Format int

const (
	// OCI is the image-spec's manifest; the default.
	OCI Format = iota
	// Docker is Docker's schema 2.
	Docker
)

// Compression is how an image's layers are packed.
type Compression int

const (
	// Gzip is what every client knows; the default.
	Gzip Compression = iota
	// Zstd is for OCI only.
	Zstd
	// Uncompressed layers are plain tar archives.
	Uncompressed
)

// Spec is what an image is made of.
type Spec struct {
	Format      Format
	Compression Compression
	// Platform is this machine's when empty.
	Platform v1.Platform
	Config   v1.Config
	// Below are layers of another image.
	Below []v1.Layer
	// Layers are lists of files, the lowest layer first.
	Layers [][]File
}

// File is an entry of a layer. Mode says whether it is a directory or a link.
type File struct {
	Path    string // without a leading slash
	Mode    fs.FileMode
	Content []byte
	Target  string // of a symbolic link
	// HardLink, if not empty, is the path of a file of the same layer to link to.
	HardLink string
	Xattrs   map[string]string
	UID      int
	GID      int
	// Major and Minor are the numbers of a device.
	Major, Minor int64
}

// Whiteout is an entry that removes a path of the lower layers.
func Whiteout(path string) File {
	return File{Path: filepath.Join(filepath.Dir(path), ".wh."+filepath.Base(path)), Mode: 0o644}
}

// Opaque is an entry that hides a directory's content in the lower layers.
func Opaque(directory string) File {
	return File{Path: filepath.Join(directory, ".wh..wh..opq"), Mode: 0o644}
}

// Build makes an image.
func Build(t testing.TB, spec Spec) v1.Image {
	t.Helper()
	if spec.Platform.OS == "" {
		spec.Platform = Here()
	}
	manifestType, configType := types.OCIManifestSchema1, types.OCIConfigJSON
	if spec.Format == Docker {
		manifestType, configType = types.DockerManifestSchema2, types.DockerConfigJSON
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, manifestType), configType)
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatalf("build image: %v", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = spec.Platform.OS, spec.Platform.Architecture, spec.Platform.Variant
	config.Config = spec.Config
	config.Created = v1.Time{Time: epoch}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatalf("build image: set its configuration: %v", err)
	}
	for _, layer := range spec.Below {
		image = Append(t, image, layer)
	}
	for _, files := range spec.Layers {
		layer, err := spec.layer(archive(t, files))
		if err != nil {
			t.Fatalf("build image: make a layer: %v", err)
		}
		image = Append(t, image, layer)
	}
	return image
}

// layer packs an archive in the image's format and compression.
func (s Spec) layer(content []byte) (v1.Layer, error) {
	kind, packed := types.OCILayer, compression.GZip
	switch {
	case s.Compression == Uncompressed && s.Format == Docker:
		return static.NewLayer(content, types.DockerUncompressedLayer), nil
	case s.Compression == Uncompressed:
		return static.NewLayer(content, types.OCIUncompressedLayer), nil
	case s.Format == Docker && s.Compression == Zstd:
		return nil, errors.New("no media type of Docker's format is for zstd")
	case s.Format == Docker:
		kind = types.DockerLayer
	case s.Compression == Zstd:
		kind, packed = types.OCILayerZStd, compression.ZStd
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithMediaType(kind), tarball.WithCompression(packed), tarball.WithCompressedCaching)
}

// Append adds a layer to an image; it need not be an archive.
func Append(t testing.TB, image v1.Image, layer v1.Layer) v1.Image {
	t.Helper()
	image, err := mutate.Append(image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "test"},
	})
	if err != nil {
		t.Fatalf("build image: add a layer: %v", err)
	}
	return image
}

// Index makes an image index of images for several platforms.
func Index(t testing.TB, format Format, images ...v1.Image) v1.ImageIndex {
	t.Helper()
	indexType := types.OCIImageIndex
	if format == Docker {
		indexType = types.DockerManifestList
	}
	index := mutate.IndexMediaType(empty.Index, indexType)
	for _, image := range images {
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatalf("build index: %v", err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: config.Platform()},
		})
	}
	return index
}

// Here is this machine's platform.
func Here() v1.Platform { return v1.Platform{OS: "linux", Architecture: runtime.GOARCH} }

// Elsewhere is another platform than this machine's.
func Elsewhere() v1.Platform {
	if runtime.GOARCH == "s390x" {
		return v1.Platform{OS: "linux", Architecture: "ppc64le"}
	}
	return v1.Platform{OS: "linux", Architecture: "s390x"}
}

// FromProgram makes an image with one static program, /NAME, which runs unless config says
// otherwise.
func FromProgram(t testing.TB, path string, config v1.Config) v1.Image {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("read program: %v", err)
	}
	name := filepath.Base(path)
	if len(config.Entrypoint) == 0 && len(config.Cmd) == 0 {
		config.Entrypoint = []string{"/" + name}
	}
	return Build(t, Spec{
		Config: config,
		Layers: [][]File{{
			{Path: "etc", Mode: fs.ModeDir | 0o755},
			{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
			{Path: name, Mode: 0o755, Content: content},
		}},
	})
}

func archive(t testing.TB, files []File) []byte {
	t.Helper()
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, file := range files {
		header, err := tar.FileInfoHeader(fileInfo{file}, file.Target)
		if err != nil {
			t.Fatalf("archive %s: %v", file.Path, err)
		}
		header.Name = file.Path
		if file.Mode.IsDir() {
			header.Name = strings.TrimSuffix(file.Path, "/") + "/"
		}
		header.Uid, header.Gid, header.Format = file.UID, file.GID, tar.FormatPAX
		header.Devmajor, header.Devminor = file.Major, file.Minor
		if file.HardLink != "" {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, file.HardLink, 0
		}
		for key, value := range file.Xattrs {
			if header.PAXRecords == nil {
				header.PAXRecords = map[string]string{}
			}
			header.PAXRecords["SCHILY.xattr."+key] = value
		}
		if err := w.WriteHeader(header); err != nil {
			t.Fatalf("archive %s: %v", file.Path, err)
		}
		if _, err := w.Write(file.Content); err != nil {
			t.Fatalf("archive %s: %v", file.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatalf("archive: %v", err)
	}
	return buffer.Bytes()
}

// fileInfo shows a File to the tar package.
type fileInfo struct{ file File }

func (i fileInfo) Name() string       { return filepath.Base(i.file.Path) }
func (i fileInfo) Size() int64        { return int64(len(i.file.Content)) }
func (i fileInfo) Mode() fs.FileMode  { return i.file.Mode }
func (i fileInfo) ModTime() time.Time { return epoch }
func (i fileInfo) IsDir() bool        { return i.file.Mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }
