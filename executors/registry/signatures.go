package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/pkg/blobcache"
	"go.podman.io/image/v5/signature"
	imagetypes "go.podman.io/image/v5/types"
)

// An artifact keeps its manifest and the signatures that it has in each repository, as an
// image does in the store, so that a namespace's policy can be asked before it is mounted:
//
//	artifacts/DIGEST/signed/HASH/   for the repository whose name has this SHA-256; what the
//	                                image library's transport dir: writes, without the files

const signedDir = "signed"

// signatures returns where an artifact's manifest and signatures of a repository are.
func (s *artifactStore) signatures(artifact Artifact, name reference.Named) (imagetypes.ImageReference, error) {
	dir := signedPlace(filepath.Dir(artifact.Path), name)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("it was not pulled from %s, and its signatures there are not known", name.Name())
	} else if err != nil {
		return nil, err
	}
	return directory.NewReference(dir)
}

func signedPlace(artifact string, name reference.Named) string {
	hash := sha256.Sum256([]byte(name.Name()))
	return filepath.Join(artifact, signedDir, hex.EncodeToString(hash[:]))
}

// keepSignatures records an artifact's manifest and signatures. The source, whose manifest
// was judged, is closed.
func (j *job) keepSignatures(ctx context.Context, artifact Artifact, from download) (err error) {
	store := j.p.artifacts
	making, err := os.MkdirTemp(store.dir, makingPrefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(making)) }()
	known, made := filepath.Join(making, "known"), filepath.Join(making, "made")
	if err := linkKnown(signedPlace(filepath.Dir(artifact.Path), from.name), known); err != nil {
		return err
	}
	source, err := blobcache.NewBlobCache(openedReference{from.source.Reference(), from.source}, known, imagetypes.PreserveOriginal)
	if err != nil {
		return err
	}
	target, err := directory.NewReference(made)
	if err != nil {
		return err
	}
	judged, err := signature.NewPolicyContext(&signature.Policy{
		Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, judged.Destroy()) }()
	files := withFiles{target, made, artifact}
	_, err = copy.Image(ctx, judged, files, source, &copy.Options{
		SourceCtx: j.system, DestinationCtx: j.system, PreserveDigests: true,
	})
	if err != nil {
		return fmt.Errorf("copy its signatures: %w", err)
	}
	if err := files.unlink(); err != nil {
		return err
	}
	return store.attest(ctx, artifact.Digest, made, from.name)
}

// linkKnown makes a directory with the artifact's configuration, if an earlier pull has it,
// so that it is not fetched again. The image library wants blobs there by their digests.
func linkKnown(signed, known string) error {
	if err := os.Mkdir(known, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(signed)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if artifactID.MatchString(entry.Name()) {
			blob := filepath.Join(known, digest.NewDigestFromEncoded(digest.Canonical, entry.Name()).String())
			err = errors.Join(err, os.Link(filepath.Join(signed, entry.Name()), blob))
		}
	}
	return err
}

// attest gives an artifact the signatures in a directory, which is moved.
func (s *artifactStore) attest(ctx context.Context, id, making string, name reference.Named) error {
	dir, err := s.place(id)
	if err != nil {
		return err
	}
	if err := s.changing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.changing.Release(1)
	place := signedPlace(dir, name)
	if err := os.Mkdir(filepath.Dir(place), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err // it was removed meanwhile
	}
	if err := os.RemoveAll(place); err != nil {
		return err
	}
	return os.Rename(making, place)
}

// openedReference is a reference whose source is open already.
type openedReference struct {
	imagetypes.ImageReference

	source imagetypes.ImageSource
}

func (r openedReference) NewImageSource(context.Context, *imagetypes.SystemContext) (imagetypes.ImageSource, error) {
	return r.source, nil
}

// withFiles is a directory for a copy that finds an artifact's files there, and so does not
// fetch them again.
type withFiles struct {
	imagetypes.ImageReference

	dir      string
	artifact Artifact
}

// NewImageDestination returns the library's own, with all its abilities.
func (r withFiles) NewImageDestination(ctx context.Context, system *imagetypes.SystemContext) (imagetypes.ImageDestination, error) {
	destination, err := r.ImageReference.NewImageDestination(ctx, system)
	if err != nil {
		return nil, err
	}
	if err := r.link(); err != nil {
		return nil, errors.Join(err, destination.Close())
	}
	return destination, nil
}

func (r withFiles) link() error {
	for _, file := range r.artifact.Files {
		blob, err := r.blob(file)
		if err == nil {
			err = os.Link(filepath.Join(r.artifact.Path, file.Name), blob)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) { // two files may have one content
			return err
		}
	}
	return nil
}

func (r withFiles) unlink() error {
	for _, file := range r.artifact.Files {
		blob, err := r.blob(file)
		if err == nil {
			err = os.Remove(blob)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// blob is where the library has a file's content.
func (r withFiles) blob(file ArtifactFile) (string, error) {
	content, err := digest.Parse(file.Digest)
	if err != nil {
		return "", err
	}
	name := content.Encoded()
	if content.Algorithm() != digest.Canonical {
		name = content.Algorithm().String() + "-" + name
	}
	return filepath.Join(r.dir, name), nil
}
