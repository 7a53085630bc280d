package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/blobinfocache/none"
	imagetypes "go.podman.io/image/v5/types"
)

// maxArtifactFiles bounds an artifact's files.
const maxArtifactFiles = 1000

// ArtifactRequest asks for an artifact. Its fields are as those of PullRequest.
type ArtifactRequest struct {
	Ref         string
	Namespace   string
	Credentials Credentials
}

// Artifact is a pulled artifact, which is no image, and which a pod can mount as an image
// volume. Its blobs are files with names from the manifest. It is a shared snapshot: do not
// change what it points to.
type Artifact struct {
	// Names are the full names under which it was pulled, sorted. A tag that has moved to
	// another artifact is replaced by the name with this one's digest.
	Names []string `json:"names"`
	// Digest is that of its manifest, and its identity.
	Digest string `json:"digest"`
	// Type is its own media type; may be empty.
	Type string `json:"type"`
	// Files are sorted by name.
	Files []ArtifactFile `json:"files"`
	// Path is the directory of the files, to be mounted read-only.
	Path string `json:"-"`
}

// ArtifactFile is one file of an artifact.
type ArtifactFile struct {
	// Name is its path in the artifact's directory.
	Name      string `json:"name"`
	Digest    string `json:"digest"`
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"` // in bytes
}

// ID is the artifact's digest without its algorithm, like an image's id.
func (a Artifact) ID() string {
	_, id, _ := strings.Cut(a.Digest, ":")
	return id
}

// Tags are the names with a tag, sorted.
func (a Artifact) Tags() []string {
	return slices.DeleteFunc(slices.Clone(a.Names), func(name string) bool { return strings.Contains(name, "@") })
}

// RepoDigests are the names with the digest, one for each repository, sorted.
func (a Artifact) RepoDigests() []string {
	var digests []string
	for _, name := range a.Names {
		if named, err := reference.ParseNormalizedNamed(name); err == nil {
			digests = append(digests, named.Name()+"@"+a.Digest)
		}
	}
	slices.Sort(digests)
	return slices.Compact(digests)
}

// Size is how many bytes its files have.
func (a Artifact) Size() uint64 {
	var size uint64
	for _, file := range a.Files {
		size += uint64(max(file.Size, 0))
	}
	return size
}

// namesMeant returns those of its names that a user's full name stands for: itself, or for
// a name with the digest, all in its repository.
func (a Artifact) namesMeant(meant reference.Named) []string {
	digested, ok := meant.(reference.Digested)
	return slices.DeleteFunc(slices.Clone(a.Names), func(name string) bool {
		if !ok {
			return name != meant.String()
		}
		named, err := reference.ParseNormalizedNamed(name)
		return err != nil || named.Name() != meant.Name() || digested.Digest().String() != a.Digest
	})
}

// PullArtifact fetches an artifact. The signature policy must accept its manifest, as an
// image's. For an image the error is ErrInvalidImage; Pull's error for artifacts is
// ErrArtifact, unless it may pull them. An artifact that is here is not fetched again.
func (p *Puller) PullArtifact(ctx context.Context, request ArtifactRequest) (Artifact, error) {
	j, err := p.begin(jobRequest{
		op: "pull artifact", subject: request.Ref, ref: request.Ref, namespace: request.Namespace, credentials: request.Credentials,
	})
	if err != nil {
		return Artifact{}, err
	}
	defer j.end()
	found, err := j.resolve(request.Ref)
	if err != nil {
		return Artifact{}, j.fail(ctx, err)
	}
	var artifact Artifact
	err = j.firstOf(ctx, found, func(name reference.Named) error {
		artifact, err = j.pullArtifact(ctx, name)
		return err
	})
	if err != nil {
		return Artifact{}, j.fail(ctx, err)
	}
	return artifact, nil
}

// pullArtifact fetches an artifact whose full name is known.
func (j *job) pullArtifact(ctx context.Context, name reference.Named) (artifact Artifact, err error) {
	err = j.fromSources(ctx, name, func(system *imagetypes.SystemContext) error {
		w := watch(ctx, j.p.options.StallTimeout)
		defer w.stop()
		artifact, err = j.fetchArtifact(w, name, system)
		return w.explain(err)
	})
	return artifact, err
}

func (j *job) fetchArtifact(ctx *watched, name reference.Named, system *imagetypes.SystemContext) (_ Artifact, err error) {
	ref, err := docker.NewReference(name)
	if err != nil {
		return Artifact{}, fmt.Errorf("%w: %w", ErrInvalidReference, err)
	}
	source, err := ref.NewImageSource(ctx, system)
	if err != nil {
		return Artifact{}, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	if err := j.judge(ctx, transfer{name: name, source: ref, system: system}, image.UnparsedInstance(source, nil)); err != nil {
		return Artifact{}, err
	}
	content, mime, err := source.GetManifest(ctx, nil)
	if err != nil {
		return Artifact{}, err
	}
	artifact, err := parseArtifact(content, mime)
	if err != nil {
		return Artifact{}, err
	}
	from := download{name: name, source: source}
	if _, missing := j.p.artifacts.read(artifact.Digest); missing == nil {
		artifact, err = j.p.artifacts.put(ctx, "", artifact, name)
	} else {
		artifact, err = j.p.makeArtifact(ctx, artifact, from)
	}
	if err != nil {
		return Artifact{}, err
	}
	if err := j.keepSignatures(ctx, artifact, from); err != nil {
		return Artifact{}, err
	}
	return artifact, nil
}

// judge asks the signature policy.
func (j *job) judge(ctx context.Context, t transfer, unparsed imagetypes.UnparsedImage) error {
	if err := judge(ctx, j.policy, unparsed); err != nil {
		return j.explain(ctx, t, copyFailure{cause: fmt.Errorf("%s%w", rejected, err)})
	}
	return nil
}

// parseArtifact reads a manifest, and names each blob's file: by its title, or else by its
// digest.
func parseArtifact(content []byte, mime string) (Artifact, error) {
	var parsed imagespec.Manifest
	if mime != imagespec.MediaTypeImageManifest {
		return Artifact{}, fmt.Errorf("%w: artifacts have manifests of the type %s, not %q", ErrInvalidImage, imagespec.MediaTypeImageManifest, mime)
	}
	if err := json.Unmarshal(content, &parsed); err != nil {
		return Artifact{}, fmt.Errorf("%w: parse its manifest: %w", ErrInvalidImage, err)
	}
	own, err := manifest.Digest(content)
	if err != nil {
		return Artifact{}, fmt.Errorf("%w: %w", ErrInvalidImage, err)
	}
	artifact := Artifact{Digest: own.String(), Type: parsed.ArtifactType}
	if artifact.Type == "" {
		artifact.Type = parsed.Config.MediaType
	}
	switch {
	case artifact.Type == imagespec.MediaTypeImageConfig:
		return Artifact{}, fmt.Errorf("%w: it is an image and no artifact", ErrInvalidImage)
	case len(parsed.Layers) > maxArtifactFiles:
		return Artifact{}, fmt.Errorf("%w: it has %d files, more than %d", ErrInvalidImage, len(parsed.Layers), maxArtifactFiles)
	}
	for _, blob := range parsed.Layers {
		if err := blob.Digest.Validate(); err != nil || blob.Size < 0 {
			return Artifact{}, fmt.Errorf("%w: it has a blob %q of %d bytes", ErrInvalidImage, blob.Digest, blob.Size)
		}
		name := blob.Annotations[imagespec.AnnotationTitle]
		if name == "" {
			name = blob.Digest.Algorithm().String() + "-" + blob.Digest.Encoded()
		}
		if !filepath.IsLocal(name) || filepath.Clean(name) != name || strings.ContainsRune(name, 0) {
			return Artifact{}, fmt.Errorf("%w: the name %q leads out of it", ErrInvalidImage, name)
		}
		artifact.Files = append(artifact.Files, ArtifactFile{Name: name, Digest: blob.Digest.String(), MediaType: blob.MediaType, Size: blob.Size})
	}
	slices.SortFunc(artifact.Files, func(a, b ArtifactFile) int { return strings.Compare(a.Name, b.Name) })
	return artifact, nil
}

// download says what to fetch, and under which name.
type download struct {
	name   reference.Named
	source imagetypes.ImageSource
}

// makeArtifact fetches the files.
func (p *Puller) makeArtifact(ctx *watched, artifact Artifact, from download) (_ Artifact, err error) {
	if err := os.MkdirAll(p.artifacts.dir, 0o700); err != nil {
		return Artifact{}, err
	}
	making, err := os.MkdirTemp(p.artifacts.dir, makingPrefix)
	if err != nil {
		return Artifact{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(making)) }()
	files := filepath.Join(making, artifactFiles)
	if err := os.Mkdir(files, 0o755); err != nil {
		return Artifact{}, err
	}
	root, err := os.OpenRoot(files)
	if err != nil {
		return Artifact{}, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, file := range artifact.Files {
		if err := fetchFile(ctx, root, file, from.source); err != nil {
			return Artifact{}, fmt.Errorf("fetch its file %q: %w", file.Name, err)
		}
	}
	return p.artifacts.put(ctx, making, artifact, from.name)
}

// fetchFile writes a blob to a file, which is removed unless size and digest are right.
func fetchFile(ctx *watched, root *os.Root, file ArtifactFile, source imagetypes.ImageSource) (err error) {
	blob, _, err := source.GetBlob(ctx, imagetypes.BlobInfo{Digest: digest.Digest(file.Digest), Size: file.Size}, none.NoCache)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	if err := root.MkdirAll(filepath.Dir(file.Name), 0o755); err != nil {
		return err
	}
	target, err := root.OpenFile(file.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: it has two files of that name", ErrInvalidImage)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	verifier := digest.Digest(file.Digest).Verifier()
	size, err := io.Copy(io.MultiWriter(target, verifier), io.LimitReader(ctx.reader(blob), file.Size+1))
	switch {
	case err != nil:
		return err
	case size != file.Size || !verifier.Verified():
		return fmt.Errorf("%w: Digest did not match: it is not %s with %d bytes", ErrInvalidImage, file.Digest, file.Size)
	}
	return target.Sync()
}
