package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"
)

// An artifactStore has the artifacts that were pulled:
//
//	artifacts/DIGEST/artifact.json   what it is
//	artifacts/DIGEST/files/NAME      its files, read-only
//	artifacts/DIGEST/signed/         see signatures.go
//	artifacts/making-*               unfinished, or being removed
//
// Artifacts are complete: they are made aside and renamed. Nobody else writes there, so
// each is read only once: the kubelet lists images often.
type artifactStore struct {
	dir string
	log *slog.Logger
	// known are the artifacts by digest, nil until they are read. It is replaced, never
	// changed.
	known atomic.Pointer[[]Artifact]
	// changing is held while all records are read, or some are changed.
	changing *semaphore.Weighted
}

const (
	artifactsDir   = "artifacts"
	artifactRecord = "artifact.json"
	artifactFiles  = "files"
	makingPrefix   = "making-"
	// maxRecordSize bounds a record, in bytes: a thousand files with the longest names.
	maxRecordSize = 8 << 20
)

var (
	// artifactID is the digest of an artifact's manifest, like the CRI's image ids.
	artifactID = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// partOfID is what is accepted as an id prefix, as for images.
	partOfID = regexp.MustCompile(`^[0-9a-f]{3,63}$`)
)

func newArtifactStore(dir string, log *slog.Logger) *artifactStore {
	return &artifactStore{dir: dir, log: log, changing: semaphore.NewWeighted(1)}
}

// removeUnfinished removes what a crash left.
func (s *artifactStore) removeUnfinished() error {
	for _, pattern := range []string{makingPrefix + "*", filepath.Join("*", artifactRecord+".*")} {
		left, err := filepath.Glob(filepath.Join(s.dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range left {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// list returns the artifacts by digest. Only the first call reads the disk.
func (s *artifactStore) list(ctx context.Context) ([]Artifact, error) {
	if known := s.known.Load(); known != nil {
		return slices.Clone(*known), nil
	}
	if err := s.changing.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer s.changing.Release(1)
	known, err := s.all()
	return slices.Clone(known), err
}

// all is list for a holder of changing.
func (s *artifactStore) all() ([]Artifact, error) {
	if known := s.known.Load(); known != nil {
		return *known, nil
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all := []Artifact{}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), makingPrefix) {
			continue
		}
		artifact, err := s.read(strings.Replace(entry.Name(), "-", ":", 1))
		if err != nil {
			// One must not hide the others. The next pull replaces it.
			s.log.Warn("an artifact cannot be read", "artifact", entry.Name(), "error", err)
			continue
		}
		all = append(all, artifact)
	}
	s.publish(all)
	return all, nil
}

// publish is for a holder of changing, who must not change all any more.
func (s *artifactStore) publish(all []Artifact) {
	slices.SortFunc(all, func(a, b Artifact) int { return strings.Compare(a.Digest, b.Digest) })
	s.known.Store(&all)
}

// place is an artifact's directory, which need not exist.
func (s *artifactStore) place(id string) (string, error) {
	parsed, err := digest.Parse(id)
	if err != nil {
		return "", fmt.Errorf("%w: %q is not a digest", ErrInvalidReference, id)
	}
	return filepath.Join(s.dir, parsed.Algorithm().String()+"-"+parsed.Encoded()), nil
}

// read reads the record of an artifact from disk.
func (s *artifactStore) read(id string) (Artifact, error) {
	dir, err := s.place(id)
	if err != nil {
		return Artifact{}, err
	}
	path := filepath.Join(dir, artifactRecord)
	info, err := os.Stat(path)
	if err != nil {
		return Artifact{}, missing(err)
	}
	if info.Size() > maxRecordSize {
		return Artifact{}, fmt.Errorf("its record has %d bytes, the limit is %d", info.Size(), maxRecordSize)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return Artifact{}, missing(err)
	}
	var artifact Artifact
	if err := json.Unmarshal(content, &artifact); err != nil {
		return Artifact{}, fmt.Errorf("parse its record: %w", err)
	}
	if artifact.Digest != id {
		return Artifact{}, fmt.Errorf("its record is for %q", artifact.Digest)
	}
	artifact.Path = filepath.Join(dir, artifactFiles)
	return artifact, nil
}

// write writes an artifact's record into a directory, atomically.
func (s *artifactStore) write(dir string, artifact Artifact) error {
	content, err := json.Marshal(artifact)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, artifactRecord+".*")
	if err != nil {
		return err
	}
	_, err = temp.Write(content)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err == nil {
		err = os.Rename(temp.Name(), filepath.Join(dir, artifactRecord))
	}
	if err != nil {
		_ = os.Remove(temp.Name()) // the next start would remove it, too
	}
	return err
}

// put records an artifact under another name. A new one is in the directory making,
// complete but for its record. A tag means one artifact, so others lose it.
func (s *artifactStore) put(ctx context.Context, making string, artifact Artifact, name reference.Named) (Artifact, error) {
	dir, err := s.place(artifact.Digest)
	if err != nil {
		return Artifact{}, err
	}
	if err := s.changing.Acquire(ctx, 1); err != nil {
		return Artifact{}, err
	}
	defer s.changing.Release(1)
	all, err := s.all()
	if err != nil {
		return Artifact{}, err
	}
	// In this order a crash in between leaves no artifact with the tag, until the pull is
	// repeated.
	if all, err = s.without(all, name, artifact.Digest); err != nil {
		return Artifact{}, err
	}
	known, unread := s.read(artifact.Digest)
	if unread != nil && making == "" {
		return Artifact{}, unread // it was removed meanwhile
	}
	artifact.Names, artifact.Path = withName(known.Names, name.String()), filepath.Join(dir, artifactFiles)
	switch {
	case unread != nil:
		err = s.bring(making, dir, artifact)
	case !slices.Equal(artifact.Names, known.Names):
		err = s.write(dir, artifact)
	}
	if err != nil {
		return Artifact{}, err
	}
	all = slices.DeleteFunc(slices.Clone(all), func(a Artifact) bool { return a.Digest == artifact.Digest })
	s.publish(append(all, artifact))
	return artifact, nil
}

// bring moves an artifact to its place, and replaces an unreadable one.
func (s *artifactStore) bring(making, dir string, artifact Artifact) error {
	if err := s.write(making, artifact); err != nil {
		return err
	}
	if err := s.discard(dir); err != nil {
		return err
	}
	return os.Rename(making, dir)
}

// discard removes an artifact's directory, renamed first, so that none is ever partial.
func (s *artifactStore) discard(dir string) error {
	gone := filepath.Join(s.dir, makingPrefix+filepath.Base(dir))
	if err := os.Rename(dir, gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(gone)
}

// without takes a tag from all artifacts but one, whose digest may be empty. They keep
// their digests as names. Changes are published.
func (s *artifactStore) without(all []Artifact, tag reference.Named, but string) ([]Artifact, error) {
	if _, tagged := tag.(reference.Tagged); !tagged {
		return all, nil
	}
	all = slices.Clone(all)
	changed := false
	for i, a := range all {
		if a.Digest == but || !slices.Contains(a.Names, tag.String()) {
			continue
		}
		a.Names = withoutNames(a.Names, []string{tag.String()})
		a.Names = withName(a.Names, tag.Name()+"@"+a.Digest)
		if err := s.write(filepath.Dir(a.Path), a); err != nil {
			return nil, fmt.Errorf("take the tag %s from artifact %s: %w", tag, a.Digest, err)
		}
		all[i], changed = a, true
	}
	if changed {
		s.publish(slices.Clone(all))
	}
	return all, nil
}

// untag takes a tag from the artifact that has it.
func (s *artifactStore) untag(ctx context.Context, tag reference.Named) error {
	all, err := s.list(ctx)
	if err != nil || !slices.ContainsFunc(all, func(a Artifact) bool { return slices.Contains(a.Names, tag.String()) }) {
		return err
	}
	if err := s.changing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.changing.Release(1)
	if all, err = s.all(); err != nil {
		return err
	}
	_, err = s.without(all, tag, "")
	return err
}

// drop takes names from an artifact, and removes it with the last of them, if may agrees.
func (s *artifactStore) drop(ctx context.Context, id string, names []string, may func(Artifact) error) error {
	if err := s.changing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.changing.Release(1)
	all, err := s.all()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(a Artifact) bool { return a.Digest == id })
	if i < 0 {
		return nil
	}
	artifact, dir := all[i], filepath.Dir(all[i].Path)
	artifact.Names = withoutNames(artifact.Names, names)
	all = slices.Delete(slices.Clone(all), i, i+1)
	if len(artifact.Names) > 0 {
		if err := s.write(dir, artifact); err != nil {
			return err
		}
		s.publish(append(all, artifact))
		return nil
	}
	if err := may(artifact); err != nil {
		return err
	}
	if err := s.discard(dir); err != nil {
		return err
	}
	s.publish(all)
	return nil
}

func withName(names []string, name string) []string {
	names = append(slices.Clone(names), name)
	slices.Sort(names)
	return slices.Compact(names)
}

func withoutNames(names, dropped []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(dropped, name) })
}

// Artifacts lists all artifacts, by digest. Only the first call reads the disk.
func (p *Puller) Artifacts() ([]Artifact, error) {
	// The wait is for writes of small files at most.
	all, err := p.artifacts.list(context.Background())
	if err != nil {
		return nil, fmt.Errorf("list artifacts: %w", err)
	}
	return all, nil
}

// ResolveArtifact finds the artifact that a user means, as storage.Images.Resolve finds an
// image: by its id, with or without "sha256:"; by a name; by an id prefix. The error is
// ErrNotFound or ErrInvalidReference.
func (p *Puller) ResolveArtifact(ref string) (Artifact, error) {
	artifact, _, err := p.resolveArtifact(ref)
	return artifact, err
}

// resolveArtifact also returns those of its names that ref stands for: all, if ref is its
// id.
func (p *Puller) resolveArtifact(ref string) (Artifact, []string, error) {
	fail := func(kind error) (Artifact, []string, error) {
		return Artifact{}, nil, fmt.Errorf("artifact %q: %w", ref, kind)
	}
	all, err := p.Artifacts()
	if err != nil {
		return Artifact{}, nil, err
	}
	if id := strings.TrimPrefix(ref, "sha256:"); artifactID.MatchString(id) {
		for _, a := range all {
			if a.ID() == id {
				return a, a.Names, nil
			}
		}
		return fail(ErrNotFound)
	}
	names, err := p.fullNames(ref)
	if err != nil && !partOfID.MatchString(ref) {
		return fail(fmt.Errorf("%w: %w", ErrInvalidReference, err))
	}
	for _, name := range names {
		for _, a := range all {
			if meant := a.namesMeant(name); len(meant) > 0 {
				return a, meant, nil
			}
		}
	}
	if !partOfID.MatchString(ref) {
		return fail(ErrNotFound)
	}
	begins := slices.DeleteFunc(all, func(a Artifact) bool { return !strings.HasPrefix(a.ID(), ref) })
	switch len(begins) {
	case 0:
		return fail(ErrNotFound)
	case 1:
		return begins[0], begins[0].Names, nil
	}
	return fail(fmt.Errorf("%w: ambiguous id prefix", ErrNotFound))
}

// fullNames returns the full names that a user's name may stand for.
func (p *Puller) fullNames(name string) ([]reference.Named, error) {
	candidates, err := p.shortNames(name)
	if err != nil {
		return nil, err
	}
	names := make([]reference.Named, len(candidates))
	for i, candidate := range candidates {
		if names[i], err = complete(candidate); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// RemoveArtifact makes ref no longer point to an artifact, as storage.Images.Remove does
// with images: a name is taken from it, and it goes with the last one; by its id it goes
// with all its names; a name with a digest stands for all names in that repository. Before
// that, may is called, and can refuse with an error. If there is none, the error is
// ErrNotFound.
func (p *Puller) RemoveArtifact(ctx context.Context, ref string, may func(Artifact) error) error {
	artifact, names, err := p.resolveArtifact(ref)
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	if err := p.artifacts.drop(ctx, artifact.Digest, names, may); err != nil {
		return fmt.Errorf("remove artifact %s: %w", artifact.Digest, err)
	}
	return nil
}
