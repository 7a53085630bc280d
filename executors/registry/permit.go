package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/signature"
	imagetypes "go.podman.io/image/v5/types"
)

const (
	// maxNamesAsked bounds the names by which a policy is asked about an image that the user
	// named by its id.
	maxNamesAsked = 16
	// askTimeout bounds a request, with all that registries are asked: a container waits.
	askTimeout = 20 * time.Second
)

// PermitRequest asks whether the pods of a namespace may use what is on the node.
type PermitRequest struct {
	Namespace string
	// Ref is the name as the user wrote it; an id stands for all names of the image.
	Ref string
	// ID is the image's id, and Names are the full names that it has here, with tags or
	// digests. They are ignored for an artifact.
	ID    string
	Names []string
	// Artifact is nil for an image.
	Artifact *Artifact
}

// Permit asks the namespace's own signature policy whether its pods may run or mount an
// image or artifact that is here, whoever pulled it. Without such a policy they may: the
// default one was asked at the pull. The answer is an *Error, of the kind ErrPolicy if the
// policy refuses.
//
// The policy is asked about the manifest and the signatures that the last pull left here,
// under the name that the user wrote. If they do not suffice, the registry is asked for
// those that it has of the same manifest: they may be newer, or a pull from another
// repository has replaced them here.
func (p *Puller) Permit(ctx context.Context, r PermitRequest) error {
	policy, err := p.ownPolicy(r.Namespace)
	if err == nil && policy == nil {
		return nil
	}
	if err == nil {
		if r.Artifact != nil {
			r.ID, r.Names = r.Artifact.ID(), append(slices.Clone(r.Artifact.Names), r.Artifact.RepoDigests()...)
		}
		system := p.options.system()
		system.SignaturePolicyPath = policy.file
		bounded, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		err = (&permit{p: p, request: r, policy: policy, system: system}).anyName(bounded)
	}
	if err == nil {
		return nil
	}
	e := newError(failure{op: "permit", subject: r.Ref, cause: err, ended: ctx.Err()})
	if e.ended == nil && policy != nil {
		e.Kind = ErrPolicy
	}
	return e
}

// A permit is one request, with the policy as of its beginning.
type permit struct {
	p       *Puller
	request PermitRequest
	policy  *namespacePolicy
	system  *imagetypes.SystemContext
}

// anyName returns nil if the policy accepts the image under one of its names.
func (q *permit) anyName(ctx context.Context) error {
	names := q.names()
	if len(names) == 0 {
		return fmt.Errorf("namespace %q has the signature policy %s, which goes by names, and the image has none that is valid here",
			q.request.Namespace, q.policy.file)
	}
	var refusals []string
	for _, name := range names {
		err := q.byName(ctx, name)
		if err == nil {
			return nil
		}
		refusals = append(refusals, fmt.Sprintf("%s: %v", name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("the signature policy of namespace %q, %s, refuses it: %s",
		q.request.Namespace, q.policy.file, strings.Join(refusals, "; "))
}

// names returns the names by which to ask: those that the user's name stands for and in
// whose repository the image is, or else all that the image has.
func (q *permit) names() []reference.Named {
	var known []reference.Named
	for _, text := range q.request.Names {
		if name, err := complete(text); err == nil {
			known = append(known, name)
		}
	}
	written, err := q.p.fullNames(q.request.Ref)
	if err == nil {
		written = slices.DeleteFunc(written, func(name reference.Named) bool {
			return !slices.ContainsFunc(known, func(k reference.Named) bool { return k.Name() == name.Name() })
		})
		if len(written) > 0 {
			return written
		}
	}
	return known[:min(len(known), maxNamesAsked)]
}

// byName asks about the image under one name.
func (q *permit) byName(ctx context.Context, name reference.Named) error {
	as, err := docker.NewReference(name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidReference, err)
	}
	requirements, _ := requirementsFor(q.policy.policy, as)
	if needsNothing(requirements) {
		return nil
	}
	own, refused := q.withSignaturesHere(ctx, as)
	if refused == nil || own == "" || !needsSignatures(requirements) || ctx.Err() != nil {
		return refused
	}
	if err := q.inRegistry(ctx, as, own); err != nil {
		return fmt.Errorf("%w; and with the signatures in the registry: %w", refused, err)
	}
	return nil
}

// withSignaturesHere asks with the signatures that are here. It also returns the digest of
// the manifest that they are for, empty if it cannot be known.
func (q *permit) withSignaturesHere(ctx context.Context, as imagetypes.ImageReference) (own digest.Digest, err error) {
	var at imagetypes.ImageReference
	if artifact := q.request.Artifact; artifact != nil {
		own = digest.Digest(artifact.Digest)
		at, err = q.p.artifacts.signatures(*artifact, as.DockerReference())
	} else {
		at, err = q.p.options.Store.ReferenceByID(q.request.ID)
	}
	if err != nil {
		return own, err
	}
	here := question{as: as, at: at, system: q.system}
	unparsed, source, err := here.open(ctx)
	if err != nil {
		return own, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	content, _, err := unparsed.Manifest(ctx)
	if err != nil {
		return own, err
	}
	if own, err = manifest.Digest(content); err != nil {
		return "", err
	}
	if refused := judge(ctx, q.policy.policy, unparsed); refused != nil {
		return own, here.refusal(ctx, q.policy.policy, q.policy.file, refused)
	}
	return own, nil
}

// inRegistry asks about the manifest with the signatures that the registry has, or returns
// what came of it lately.
func (q *permit) inRegistry(ctx context.Context, as imagetypes.ImageReference, own digest.Digest) error {
	key := asked{policy: q.policy.print, name: as.DockerReference().String(), manifest: own}
	if known, err := q.p.verdicts.find(key); known {
		return err
	}
	err := q.askRegistry(ctx, as, own)
	if !errors.Is(ctx.Err(), context.Canceled) { // a registry that hangs is an answer, too
		q.p.verdicts.remember(key, err)
	}
	return err
}

// askRegistry asks with the configured credentials: those of the pull are gone, and a
// namespace's are for its next one.
func (q *permit) askRegistry(ctx context.Context, as imagetypes.ImageReference, own digest.Digest) error {
	name, err := reference.WithDigest(reference.TrimNamed(as.DockerReference()), own)
	if err != nil {
		return err
	}
	at, err := docker.NewReference(name)
	if err != nil {
		return err
	}
	j, err := q.p.begin(jobRequest{op: "look for signatures of", subject: name.String()})
	if err != nil {
		return err
	}
	defer j.end()
	err = j.fromSources(ctx, name, func(system *imagetypes.SystemContext) error {
		w := watch(ctx, q.p.options.StallTimeout)
		defer w.stop()
		return w.explain(question{as: as, at: at, system: system}.ask(w, q.policy.policy))
	})
	if err != nil {
		return j.fail(ctx, err)
	}
	return nil
}

// Types of requirements, as in policy.json.
const (
	acceptsAnything = "insecureAcceptAnything"
	signedBy        = "signedBy"
	sigstoreSigned  = "sigstoreSigned"
)

// needsNothing reports whether the requirements accept whatever has the name.
func needsNothing(requirements signature.PolicyRequirements) bool {
	return len(requirements) > 0 && !slices.ContainsFunc(requirements, func(r signature.PolicyRequirement) bool {
		return typeOf(r) != acceptsAnything
	})
}

// needsSignatures reports whether signatures can fulfil the requirements.
func needsSignatures(requirements signature.PolicyRequirements) bool {
	return !slices.ContainsFunc(requirements, func(r signature.PolicyRequirement) bool {
		return !slices.Contains([]string{acceptsAnything, signedBy, sigstoreSigned}, typeOf(r))
	})
}

// keyFiles returns the files that a policy names, in the order of the JSON's keys.
func keyFiles(policy []byte) []string {
	var parsed any
	if json.Unmarshal(policy, &parsed) != nil {
		return nil
	}
	var files []string
	var walk func(key string, value any)
	walk = func(key string, value any) {
		switch value := value.(type) {
		case string:
			if strings.HasSuffix(key, "Path") || strings.HasSuffix(key, "Paths") {
				files = append(files, value)
			}
		case []any:
			for _, element := range value {
				walk(key, element)
			}
		case map[string]any:
			for _, key := range sortedKeys(value) {
				walk(key, value[key])
			}
		}
	}
	walk("", parsed)
	return files
}
