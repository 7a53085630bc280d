package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containers/ocicrypt/config"
	"github.com/distribution/reference"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/signature"
	imagetypes "go.podman.io/image/v5/types"

	"github.com/stele-runtime/stele/actors/redact"
)

// A job is one pull, inspection or load, with the configuration as of its beginning. Only
// one goroutine uses it.
type job struct {
	p       *Puller
	request jobRequest
	system  *imagetypes.SystemContext
	policy  *signature.Policy
	keys    *config.DecryptConfig
	news    *reporter
	names   []reference.Named // that were tried
	temp    string            // a directory that goes with the job
	undo    []func()
}

type jobRequest struct {
	op      string // for errors
	subject string // for errors
	// ref is the image's name as the user wrote it, if it is one in a registry.
	ref         string
	namespace   string
	credentials Credentials
	progress    func(Event)
}

// begin reads the configuration. The caller must end the job.
func (p *Puller) begin(request jobRequest) (*job, error) {
	j := &job{p: p, request: request, system: p.options.system(), news: newReporter(request.progress)}
	if err := j.prepare(); err != nil {
		err = j.fail(context.Background(), err)
		j.end()
		return nil, err
	}
	return j, nil
}

func (j *job) prepare() error {
	r := j.request
	if r.namespace != "" && !namespaceName.MatchString(r.namespace) {
		return fmt.Errorf("%w: %q cannot be a namespace", ErrInvalidReference, r.namespace)
	}
	temp, err := os.MkdirTemp(j.p.options.TempDir, jobPrefix)
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	j.temp, j.system.BigFilesTemporaryDir = temp, temp
	j.undo = append(j.undo, func() {
		if err := os.RemoveAll(temp); err != nil {
			j.p.log.Warn("temporary files of a pull could not be removed", "error", err)
		}
	})
	if j.system.SignaturePolicyPath, err = j.p.policyPath(r.namespace); err != nil {
		return err
	}
	if j.policy, err = readPolicy(j.system); err != nil {
		return err
	}
	if j.keys, err = decryptionKeys(j.p.options.DecryptionKeysPath); err != nil {
		return fmt.Errorf("%w: %w", ErrDecryption, err)
	}
	if r.ref == "" {
		return nil
	}
	path, remove, err := j.p.takeAuthFile(r.namespace, r.ref)
	if err != nil {
		return err
	}
	j.system.AuthFilePath = path
	j.undo = append(j.undo, remove)
	return nil
}

func (j *job) end() {
	for _, undo := range j.undo {
		undo()
	}
}

// fail makes the caller's error, without the credentials that may have been used.
func (j *job) fail(ctx context.Context, cause error) error {
	return newError(failure{
		op: j.request.op, subject: j.request.subject, cause: cause, ended: ctx.Err(),
		secrets: redact.Known(append(j.request.credentials.secrets(), j.configuredSecrets()...)...),
	})
}

// systemFor returns the library's settings for an image in a registry, with its
// credentials.
func (j *job) systemFor(name reference.Named) (*imagetypes.SystemContext, error) {
	system := *j.system
	if err := j.request.credentials.apply(&system, reference.Domain(name)); err != nil {
		return nil, err
	}
	return &system, nil
}

// transfer says what to copy into the store, and under which name.
type transfer struct {
	name   reference.Named
	source imagetypes.ImageReference
	system *imagetypes.SystemContext // for the source
}

// copied is what a copy brought. If it failed, only bytes is set.
type copied struct {
	id    string
	found contents
	bytes uint64
}

// copyUndisturbed copies an image into the store, and retries once if images were removed
// meanwhile: layers that the library had found in the store, or just put there, may have
// gone with them. A registry's answer is no reason to retry here.
func (j *job) copyUndisturbed(ctx context.Context, t transfer) (copied, error) {
	before := j.p.options.Store.Removals()
	first, err := j.copy(ctx, t)
	if err == nil || ctx.Err() != nil || kindOf(err) != nil || !j.p.options.Store.RemovedSince(before) {
		return first, err
	}
	j.p.log.Debug("a pull is retried, as images were removed meanwhile", "image", t.name.String(), "error", j.fail(ctx, err))
	again, err := j.copy(ctx, t)
	again.bytes += first.bytes
	return again, err
}

// copy tries once to copy an image into the store, if it can run here and the policy
// accepts it.
func (j *job) copy(ctx context.Context, t transfer) (copied, error) {
	target, err := j.p.options.Store.Reference(t.name)
	if err != nil {
		return copied{}, err
	}
	judge, err := signature.NewPolicyContext(j.policy)
	if err != nil {
		return copied{}, fmt.Errorf("apply the signature policy: %w", err)
	}
	defer func() {
		if err := judge.Destroy(); err != nil {
			j.p.log.Warn("a signature policy could not be released", "error", err)
		}
	}()
	whole, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	files := waiting{temp: j.system.BigFilesTemporaryDir, names: map[string]string{}}
	m := startMeter(meterOptions{
		reporter: j.news, patience: j.p.options.StallTimeout, giveUp: giveUp, arrived: files.add,
	})
	source := &checkedReference{ImageReference: t.source, canDecrypt: j.keys != nil, platforms: j.p.options.Platforms, report: func(c contents) {
		c.resolved.Name = t.name.String()
		if c.warning != "" {
			j.p.log.Warn("an image may not run on this machine", "image", t.name.String(), "reason", c.warning)
		}
		m.found <- c
	}}
	var made imagetypes.ImageReference
	from, err := j.p.fromKept(source)
	if err == nil {
		_, err = copy.Image(whole, judge, target, from, &copy.Options{
			SourceCtx:               t.system,
			DestinationCtx:          j.system,
			Progress:                m.events,
			ProgressInterval:        everyRead,
			MaxParallelDownloads:    j.p.options.MaxParallelLayers,
			OciDecryptConfig:        j.keys,
			ReportResolvedReference: &made,
		})
	}
	result := copied{bytes: m.stop()}
	if err != nil {
		err = j.explain(ctx, t, copyFailure{
			cause: err, ended: context.Cause(whole), encrypted: source.found.encrypted,
		})
		switch {
		case isFull(err):
			j.p.dropKept(everything)
		case worthKeeping(ctx, err):
			err = also(err, files.keep(source.found.distinct(), j.p.keptDir()))
		}
		return result, also(err, files.forget())
	}
	j.p.dropKept(ofThese(source.found.distinct()))
	result.found = source.found
	if result.id, err = j.p.options.Store.ImageIDAt(ctx, made); err != nil {
		return result, fmt.Errorf("look at the new image: %w", err)
	}
	return result, nil
}

type copyFailure struct {
	cause     error
	ended     error // why the meter gave the copy up, if it did
	encrypted bool
}

// rejected begins the library's error when the policy rejects an image, or a signature
// cannot be read.
const rejected = "Source image rejected: "

// explain gives a failed copy its kind where the library's error doesn't.
func (j *job) explain(ctx context.Context, t transfer, f copyFailure) error {
	switch {
	case errors.Is(f.ended, errNothingCame):
		return stalled(j.p.options.StallTimeout)
	case errors.Is(f.ended, errTooMuchCame):
		return fmt.Errorf("%w: %w", ErrInvalidImage, f.ended)
	case errors.Is(kindOf(f.cause), ErrPolicy), kindOf(f.cause) == nil && strings.Contains(f.cause.Error(), rejected):
		q := question{as: t.source, at: t.source, system: t.system}
		return q.refusal(ctx, j.policy, j.system.SignaturePolicyPath, f.cause)
	case f.encrypted && strings.Contains(f.cause.Error(), "decrypt"):
		return fmt.Errorf("%w: %w", ErrDecryption, f.cause)
	}
	return f.cause
}

// also adds what went wrong while a failure was handled, without changing its kind.
func also(failed, other error) error {
	if other == nil {
		return failed
	}
	return fmt.Errorf("%w (also: %s)", failed, other.Error())
}
