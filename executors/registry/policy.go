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

// refusal adds to a policy's refusal which requirement failed. The library says only why,
// so they are tried one by one.
func (j *job) refusal(ctx context.Context, t transfer, refused error) error {
	requirements, scope := requirementsFor(j.policy, t.source)
	failed := ""
	for i, requirement := range requirements {
		if fulfils(ctx, t, requirement) {
			continue
		}
		failed = fmt.Sprintf("requirement %d of %d, %s,", i+1, len(requirements), typeOf(requirement))
		break
	}
	if failed == "" { // now it is accepted
		return refused
	}
	file := j.system.SignaturePolicyPath
	if file == "" {
		file = "policy.json"
	}
	return fmt.Errorf("%w: %s for %s in %s is not met: %w", ErrPolicy, failed, scope, file, refused)
}

// fulfils reports whether an image meets one requirement. An image that cannot be read
// doesn't.
func fulfils(ctx context.Context, t transfer, requirement signature.PolicyRequirement) bool {
	allowed, err := func() (allowed bool, err error) {
		policy := &signature.Policy{Default: signature.PolicyRequirements{requirement}}
		judge, err := signature.NewPolicyContext(policy)
		if err != nil {
			return false, err
		}
		defer func() { err = errors.Join(err, judge.Destroy()) }()
		source, err := t.source.NewImageSource(ctx, t.system)
		if err != nil {
			return false, err
		}
		defer func() { err = errors.Join(err, source.Close()) }()
		unparsed, err := unparsedHere(ctx, t.system, source)
		if err != nil {
			return false, err
		}
		return judge.IsRunningImageAllowed(ctx, unparsed)
	}()
	return allowed && err == nil
}

// unparsedHere returns the image for this platform, of which only the digest is trusted
// yet.
func unparsedHere(ctx context.Context, system *imagetypes.SystemContext, source imagetypes.ImageSource) (imagetypes.UnparsedImage, error) {
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
