package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	imagetypes "go.podman.io/image/v5/types"
)

// Store is where pulled images go; executors/storage has the real one.
type Store interface {
	// Reference returns the place of an image of that name.
	Reference(name reference.Named) (imagetypes.ImageReference, error)
	// ReferenceByID returns the place of the image with an id.
	ReferenceByID(id string) (imagetypes.ImageReference, error)
	// ImageIDAt returns the id of the image behind the reference that a finished copy
	// reports.
	ImageIDAt(ctx context.Context, ref imagetypes.ImageReference) (string, error)
	// BeginPull is called before each pull or load, and end after it, with its failure.
	BeginPull(ctx context.Context) (end func(failed error), err error)
	// Removals returns how many removals of images have ended.
	Removals() uint64
	// RemovedSince reports whether any image was being removed since Removals returned ended.
	// A pull that fails meanwhile may have lost layers to it, and is retried.
	RemovedSince(ended uint64) bool
}

// Puller pulls, inspects and loads images. Its methods may be called concurrently.
type Puller struct {
	options   Options
	log       *slog.Logger
	artifacts *artifactStore
	verdicts  verdicts
	// shortNames returns the full names that a short name of an artifact may stand for.
	shortNames func(name string) ([]string, error)
}

// PullRequest asks for one image.
type PullRequest struct {
	// Ref is the image's name as a user wrote it.
	Ref string
	// Namespace is the namespace of the pod for which the image is pulled, or empty.
	// It may have a signature policy and credentials of its own.
	Namespace string
	// Credentials may be empty; then the configured ones are used.
	Credentials Credentials
	// Artifacts pulls an artifact as PullArtifact does, instead of failing, with the same
	// credentials, which may be valid only once.
	Artifacts bool
	// Progress, if not nil, is called with each event, by one goroutine at a time, and
	// never after Pull has returned. It must not block.
	Progress func(Event)
}

// Pulled is a pulled image, or artifact.
type Pulled struct {
	// Artifact is nil for an image; otherwise only Name and Digest are set beside it.
	Artifact *Artifact

	// ImageID is the id of the image in the store.
	ImageID string
	// Ref is what the CRI calls image_ref: the image's id, which since Kubernetes
	// 1.36 must be the same in PullImageResponse, Image and ContainerStatus.
	Ref string
	// Name is the full name under which the image is in the store now.
	Name string
	// Digest is the digest of what the registry has under the name: of the index, if
	// it is one.
	Digest string
	// Bytes is how much was fetched, including by failed tries; parts that were in the
	// store are not counted.
	Bytes uint64
}

const (
	tempDir     = "tmp"
	cacheDir    = "cache"
	aliasesFile = "short-name-aliases.conf"
	// jobPrefix begins the names of temporary directories.
	jobPrefix = "stele-pull-"
	userAgent = "stele"
)

// New makes a Puller, and removes leftovers of earlier pulls after a crash.
func New(options Options) (*Puller, error) {
	if err := options.complete(); err != nil {
		return nil, fmt.Errorf("set up pulling: %w", err)
	}
	p := &Puller{
		options: options, log: options.Logger,
		artifacts:  newArtifactStore(filepath.Join(options.Dir, artifactsDir), options.Logger),
		shortNames: ShortNames(options.RegistriesConf, options.RegistriesConfDir, options.Dir),
	}
	if _, err := readPolicy(options.system()); err != nil {
		return nil, fmt.Errorf("set up pulling: %w", err)
	}
	if _, err := decryptionKeys(options.DecryptionKeysPath); err != nil {
		return nil, fmt.Errorf("set up pulling: %w", err)
	}
	if err := p.removeLeftovers(); err != nil {
		return nil, fmt.Errorf("set up pulling: remove files of earlier pulls: %w", err)
	}
	return p, nil
}

func (p *Puller) removeLeftovers() error {
	left, err := filepath.Glob(filepath.Join(p.options.TempDir, jobPrefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	if err := p.artifacts.removeUnfinished(); err != nil {
		return err
	}
	p.dropKept(onlyOld)
	return removeUsedCredentials(p.options.NamespacedAuthDir)
}

// Pull fetches an image into the store. Its errors are *Error, with a Kind from errors.go.
// When it fails, or ctx ends, partial layers are removed; complete ones are kept for a
// while, for the next try.
func (p *Puller) Pull(ctx context.Context, request PullRequest) (Pulled, error) {
	j, err := p.begin(jobRequest{
		op: "pull", subject: request.Ref, ref: request.Ref, namespace: request.Namespace,
		credentials: request.Credentials, progress: request.Progress,
	})
	if err != nil {
		return Pulled{}, err
	}
	defer j.end()
	found, err := j.resolve(request.Ref)
	if err != nil {
		return Pulled{}, j.fail(ctx, err)
	}
	done, err := p.options.Store.BeginPull(ctx)
	if err != nil {
		return Pulled{}, j.fail(ctx, err)
	}
	defer func() { done(err) }()
	defer p.options.Pulling()()
	var pulled Pulled
	err = j.firstOf(ctx, found, func(name reference.Named) error {
		pulled, err = j.pull(ctx, name)
		if err == nil {
			p.takeTag(ctx, name)
		}
		if request.Artifacts && errors.Is(err, ErrArtifact) {
			var artifact Artifact
			artifact, err = j.pullArtifact(ctx, name)
			pulled = Pulled{Artifact: &artifact, Name: name.String(), Digest: artifact.Digest}
		}
		return err
	})
	if err != nil {
		return Pulled{}, j.fail(ctx, err)
	}
	return pulled, nil
}

// takeTag takes a tag, which now means an image, from an artifact.
func (p *Puller) takeTag(ctx context.Context, tag reference.Named) {
	if err := p.artifacts.untag(ctx, tag); err != nil {
		p.log.Warn("a tag of an image is still an artifact's, too", "tag", tag.String(), "error", err)
	}
}

// pull fetches an image whose full name is known.
func (j *job) pull(ctx context.Context, name reference.Named) (Pulled, error) {
	source, err := docker.NewReference(name)
	if err != nil {
		return Pulled{}, fmt.Errorf("%w: %w", ErrInvalidReference, err)
	}
	var (
		made  copied
		bytes uint64
	)
	err = j.fromSources(ctx, name, func(system *imagetypes.SystemContext) (err error) {
		made, err = j.copyUndisturbed(ctx, transfer{name: name, source: source, system: system})
		bytes += made.bytes
		return err
	})
	if err != nil {
		return Pulled{}, err
	}
	return Pulled{ImageID: made.id, Ref: made.id, Name: name.String(), Digest: made.found.resolved.Digest, Bytes: bytes}, nil
}

// resolve returns the full names that a user's name may stand for.
func (j *job) resolve(ref string) (candidates, error) {
	// A change of registries.conf takes effect at once.
	sysregistriesv2.InvalidateCache()
	found, err := resolve(j.system, ref)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidReference, err)
	}
	return found, nil
}

// notBlocked honours "blocked" in registries.conf for the image's name. The library does so
// only for the place that the name is rewritten to.
func (j *job) notBlocked(name reference.Named) error {
	registry, err := sysregistriesv2.FindRegistry(j.system, name.Name())
	if err != nil {
		return fmt.Errorf("read registries.conf: %w", err)
	}
	if registry != nil && registry.Blocked {
		return fmt.Errorf("%w: registries.conf blocks %s", ErrBlocked, registry.Prefix)
	}
	return nil
}

// firstOf tries names in turn until one works.
func (j *job) firstOf(ctx context.Context, names candidates, try func(reference.Named) error) error {
	var failures []error
	for _, name := range names {
		j.names = append(j.names, name)
		err := try(name)
		if err == nil {
			return nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(failures) == 1 {
		return failures[0]
	}
	return failedEverywhere(names, failures)
}

// failedEverywhere joins the failures of all names that a short name stands for. Its kind
// is that of the first failure other than "not found": that registry might have had the
// image.
func failedEverywhere(names candidates, failures []error) error {
	kind := failures[0]
	var texts []string
	for i, failure := range failures {
		if errors.Is(kindOf(kind), ErrNotFound) {
			kind = failure
		}
		texts = append(texts, fmt.Sprintf("%s: %v", names[i], failure))
	}
	return &joined{kind: kind, text: strings.Join(texts, "; ")}
}

type joined struct {
	kind error
	text string
}

func (j *joined) Error() string { return j.text }
func (j *joined) Unwrap() error { return j.kind }
