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
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/signature"
	imagetypes "go.podman.io/image/v5/types"
	"go.podman.io/storage/pkg/configfile"
)

// Store is where pulled images go; executors/storage has the real one.
type Store interface {
	// Reference gives the place of an image of that name.
	Reference(name reference.Named) (imagetypes.ImageReference, error)
	// ImageIDAt gives the id of the image that a finished copy reports to have made.
	ImageIDAt(ctx context.Context, ref imagetypes.ImageReference) (string, error)
	// BeginPull is called around each pull.
	BeginPull(ctx context.Context) (end func(), err error)
}

// Options configure a Puller. Store and Dir are required. An empty path means the
// default that all container tools share.
type Options struct {
	Store Store
	// Dir is a directory of the Puller's own, created if need be: temporary files
	// (removed by New if a crash left them) and caches (which may be deleted when no
	// Puller uses them).
	Dir string
	// RegistriesConf and RegistriesConfDir replace /etc/containers/registries.conf
	// and registries.conf.d.
	RegistriesConf, RegistriesConfDir string
	// PolicyPath replaces /etc/containers/policy.json. If it is empty and there is
	// no policy.json in the usual places, every image is accepted.
	PolicyPath string
	// AuthFile replaces the auth.json from which credentials are taken when a pull
	// brings none.
	AuthFile string
	// CertsDir replaces /etc/containers/certs.d.
	CertsDir string
	// MaxParallelLayers bounds how many layers of one image are fetched at a time; 0
	// means the library's default, 6.
	MaxParallelLayers uint
	// Logger may be nil, for slog.Default.
	Logger *slog.Logger
}

// Puller pulls images. Its methods may be called concurrently.
type Puller struct {
	options Options
	log     *slog.Logger
}

// PullRequest asks for one image.
type PullRequest struct {
	// Ref is the image's name as a user wrote it.
	Ref string
	// Credentials may be empty; then those of Options.AuthFile count.
	Credentials Credentials
	// Progress, if not nil, is called as the image's parts arrive, by one goroutine,
	// and never after Pull has returned. It must not block.
	Progress func(Progress)
}

// Pulled is a pulled image.
type Pulled struct {
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
	// Bytes is how much was fetched; parts that were in the store are not counted.
	Bytes uint64
}

const (
	tempDir     = "tmp"
	cacheDir    = "cache"
	aliasesFile = "short-name-aliases.conf"
	// libraryTempPrefix is how the image library names its temporary files.
	libraryTempPrefix = "container_images_"
	userAgent         = "stele"
)

// New makes a Puller and removes what a crash left of earlier pulls.
func New(options Options) (*Puller, error) {
	if options.Store == nil || options.Dir == "" {
		return nil, errors.New("set up pulling: a store and a directory must be given")
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	temp := filepath.Join(options.Dir, tempDir)
	if err := os.MkdirAll(temp, 0o700); err != nil {
		return nil, fmt.Errorf("set up pulling: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(temp, libraryTempPrefix+"*"))
	if err != nil {
		return nil, fmt.Errorf("set up pulling: look for files of earlier pulls: %w", err)
	}
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			return nil, fmt.Errorf("set up pulling: remove files of an earlier pull: %w", err)
		}
	}
	p := &Puller{options: options, log: options.Logger}
	if _, err := p.policy(); err != nil {
		return nil, fmt.Errorf("set up pulling: %w", err)
	}
	return p, nil
}

// Pull fetches an image into the store. Its errors are *Error, with a Kind from
// errors.go. When it fails, or ctx ends, what was fetched in part is removed; layers
// that are whole are kept for a while, for the next try.
func (p *Puller) Pull(ctx context.Context, request PullRequest) (Pulled, error) {
	redact := request.Credentials.redactor()
	sysregistriesv2.InvalidateCache()
	found, err := resolve(p.system(), request.Ref)
	if err != nil {
		return Pulled{}, newError(ctx.Err(), request.Ref, redact, fmt.Errorf("%w: %w", ErrInvalidReference, err))
	}
	end, err := p.options.Store.BeginPull(ctx)
	if err != nil {
		return Pulled{}, newError(ctx.Err(), request.Ref, redact, err)
	}
	defer end()

	var failures []error
	for _, name := range found {
		pulled, err := p.pullAs(ctx, name, request)
		if err == nil {
			return pulled, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(failures) == 1 {
		return Pulled{}, newError(ctx.Err(), request.Ref, redact, failures[0])
	}
	return Pulled{}, newError(ctx.Err(), request.Ref, redact, failedEverywhere(found, failures))
}

// pullAs pulls an image whose full name is known.
func (p *Puller) pullAs(ctx context.Context, name reference.Named, request PullRequest) (Pulled, error) {
	source, err := docker.NewReference(name)
	if err != nil {
		return Pulled{}, fmt.Errorf("%w: %w", ErrInvalidReference, err)
	}
	target, err := p.options.Store.Reference(name)
	if err != nil {
		return Pulled{}, err
	}
	system := p.system()
	if err := request.Credentials.apply(system, reference.Domain(name)); err != nil {
		return Pulled{}, err
	}
	policy, err := p.policy()
	if err != nil {
		return Pulled{}, err
	}
	policyContext, err := signature.NewPolicyContext(policy)
	if err != nil {
		return Pulled{}, fmt.Errorf("apply the signature policy: %w", err)
	}
	defer func() {
		if err := policyContext.Destroy(); err != nil {
			p.log.Warn("a signature policy could not be put away", "error", err)
		}
	}()

	checked := &checkedReference{ImageReference: source}
	meter := startMeter(request.Progress)
	var copied imagetypes.ImageReference
	_, err = copy.Image(ctx, policyContext, target, checked, &copy.Options{
		SourceCtx:               system,
		DestinationCtx:          system,
		Progress:                meter.events,
		ProgressInterval:        progressInterval,
		MaxParallelDownloads:    p.options.MaxParallelLayers,
		ReportResolvedReference: &copied,
	})
	bytes := meter.stop()
	if err != nil {
		return Pulled{}, err
	}
	id, err := p.options.Store.ImageIDAt(ctx, copied)
	if err != nil {
		return Pulled{}, fmt.Errorf("look at what was pulled: %w", err)
	}
	return Pulled{
		ImageID: id,
		Ref:     id,
		Name:    name.String(),
		Digest:  checked.manifest.String(),
		Bytes:   bytes,
	}, nil
}

// system gives the image library's settings, without credentials.
func (p *Puller) system() *imagetypes.SystemContext {
	return &imagetypes.SystemContext{
		SystemRegistriesConfPath:    p.options.RegistriesConf,
		SystemRegistriesConfDirPath: p.options.RegistriesConfDir,
		UserShortNameAliasConfPath:  filepath.Join(p.options.Dir, cacheDir, aliasesFile),
		SignaturePolicyPath:         p.options.PolicyPath,
		AuthFilePath:                p.options.AuthFile,
		DockerPerHostCertDirPath:    p.options.CertsDir,
		BlobInfoCacheDir:            filepath.Join(p.options.Dir, cacheDir),
		BigFilesTemporaryDir:        filepath.Join(p.options.Dir, tempDir),
		DockerRegistryUserAgent:     userAgent,
	}
}

// policy reads the signature policy.
func (p *Puller) policy() (*signature.Policy, error) {
	policy, err := signature.DefaultPolicy(p.system())
	if errors.Is(err, configfile.ErrConfigFileNotFound) {
		return &signature.Policy{
			Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()},
		}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the signature policy: %w", err)
	}
	return policy, nil
}

// failedEverywhere joins the failures of all names that a short name stands for. Its
// kind is that of the first failure that is not "not found", as that registry might
// have had the image.
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
