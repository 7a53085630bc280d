package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/signature"
	imagetypes "go.podman.io/image/v5/types"
	"go.podman.io/storage/pkg/configfile"
)

// readPolicy reads the signature policy that a system context names.
func readPolicy(system *imagetypes.SystemContext) (*signature.Policy, error) {
	policy, err := signature.DefaultPolicy(system)
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

// A question is about an image, for a policy.
type question struct {
	// as is the reference by which the policy knows the image.
	as imagetypes.ImageReference
	// at is where it is: the same, or where a copy of it is.
	at     imagetypes.ImageReference
	system *imagetypes.SystemContext
}

// open opens the image for this platform. The caller must close the source after it.
func (q question) open(ctx context.Context) (imagetypes.UnparsedImage, imagetypes.ImageSource, error) {
	source, err := q.at.NewImageSource(ctx, q.system)
	if err != nil {
		return nil, nil, err
	}
	unparsed, err := unparsedHere(ctx, q.system, source)
	if err != nil {
		return nil, nil, errors.Join(err, source.Close())
	}
	return image.UnparsedInstanceWithReference(unparsed, q.as), source, nil
}

// ask asks a policy; nil means that the image is accepted.
func (q question) ask(ctx context.Context, policy *signature.Policy) (err error) {
	unparsed, source, err := q.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	return judge(ctx, policy, unparsed)
}

// judge asks a policy about an open image; nil means that it is accepted.
func judge(ctx context.Context, policy *signature.Policy, unparsed imagetypes.UnparsedImage) (err error) {
	judge, err := signature.NewPolicyContext(policy)
	if err != nil {
		return fmt.Errorf("apply the signature policy: %w", err)
	}
	defer func() { err = errors.Join(err, judge.Destroy()) }()
	allowed, err := judge.IsRunningImageAllowed(ctx, unparsed)
	if err == nil && !allowed {
		err = signature.PolicyRequirementError("the policy says no")
	}
	return err
}

// refusal adds to a policy's refusal which requirement failed, and in which file. The
// library says only why, so they are tried one by one.
func (q question) refusal(ctx context.Context, policy *signature.Policy, file string, refused error) error {
	requirements, scope := requirementsFor(policy, q.as)
	failed := ""
	for i, requirement := range requirements {
		if q.ask(ctx, &signature.Policy{Default: signature.PolicyRequirements{requirement}}) == nil {
			continue
		}
		failed = fmt.Sprintf("requirement %d of %d, %s,", i+1, len(requirements), typeOf(requirement))
		break
	}
	if failed == "" { // now it is accepted
		return refused
	}
	if file == "" {
		file = "policy.json"
	}
	return fmt.Errorf("%w: %s for %s in %s is not met: %w", ErrPolicy, failed, scope, file, refused)
}

// unparsedHere returns the image for this platform, of which only the digest is trusted
// yet.
func unparsedHere(ctx context.Context, system *imagetypes.SystemContext, source imagetypes.ImageSource) (*image.UnparsedImage, error) {
	content, mime, err := source.GetManifest(ctx, nil)
	if err != nil || !manifest.MIMETypeIsMultiImage(mime) {
		return image.UnparsedInstance(source, nil), err
	}
	list, err := manifest.ListFromBlob(content, mime)
	if err != nil {
		return nil, err
	}
	instance, err := list.ChooseInstance(system)
	if err != nil {
		return nil, err
	}
	return image.UnparsedInstance(source, &instance), nil
}

// requirementsFor returns the policy's requirements for an image, and their scope. The
// order is that of containers-policy.json(5): the most specific scope wins.
func requirementsFor(policy *signature.Policy, ref imagetypes.ImageReference) (signature.PolicyRequirements, string) {
	transport := ref.Transport().Name()
	scopes := policy.Transports[transport]
	candidates := append([]string{ref.PolicyConfigurationIdentity()}, ref.PolicyConfigurationNamespaces()...)
	for _, scope := range append(candidates, "") {
		if requirements, found := scopes[scope]; found {
			return requirements, fmt.Sprintf("the scope %q of the transport %s", scope, transport)
		}
	}
	return policy.Default, "the default"
}

// typeOf returns a requirement's type, as in policy.json.
func typeOf(requirement signature.PolicyRequirement) string {
	var common struct {
		Type string `json:"type"`
	}
	content, err := json.Marshal(requirement)
	if err == nil {
		err = json.Unmarshal(content, &common)
	}
	if err != nil {
		return fmt.Sprintf("%T", requirement)
	}
	return common.Type
}
