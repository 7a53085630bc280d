package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/distribution/reference"
	"go.podman.io/image/v5/signature"
)

// A pod's namespace may have a signature policy of its own, which an administrator puts
// into Options.PolicyDir, and credentials, which a credential provider of the kubelet puts
// into Options.NamespacedAuthDir before the pull. File names are those of CRI-O's
// signature_policy_dir and namespaced_auth_dir.

// inUseDir is where a pull moves the namespace's credentials, which are for one pull: the
// provider writes new ones for each.
const inUseDir = "in-use"

// namespaceName is what Kubernetes allows (RFC 1123 label); it becomes part of paths.
var namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// policyPath returns the path of the policy for a namespace: its own if there is one.
func (p *Puller) policyPath(namespace string) (string, error) {
	if namespace == "" || p.options.PolicyDir == "" {
		return p.options.PolicyPath, nil
	}
	own := p.ownPolicyPath(namespace)
	switch _, err := os.Stat(own); {
	case err == nil:
		return own, nil
	case errors.Is(err, fs.ErrNotExist):
		return p.options.PolicyPath, nil
	default:
		return "", fmt.Errorf("look for a signature policy of the namespace: %w", err)
	}
}

func (p *Puller) ownPolicyPath(namespace string) string {
	return filepath.Join(p.options.PolicyDir, namespace+".json")
}

// A namespacePolicy is a namespace's own.
type namespacePolicy struct {
	file   string
	policy *signature.Policy
	print  string // see fingerprint
}

// ownPolicy reads the policy of a namespace; nil if it has none of its own. What cannot be
// a namespace of Kubernetes has none.
func (p *Puller) ownPolicy(namespace string) (*namespacePolicy, error) {
	if p.options.PolicyDir == "" || !namespaceName.MatchString(namespace) {
		return nil, nil
	}
	file := p.ownPolicyPath(namespace)
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the signature policy of namespace %q: %w", namespace, err)
	}
	policy, err := signature.NewPolicyFromBytes(content)
	if err != nil {
		return nil, fmt.Errorf("read the signature policy of namespace %q: %s: %w", namespace, file, err)
	}
	return &namespacePolicy{file: file, policy: policy, print: fingerprint(content)}, nil
}

// takeAuthFile returns the path of the auth.json for a pull, and a function to call at its
// end, which removes it if it is the namespace's.
func (p *Puller) takeAuthFile(namespace, ref string) (path string, remove func(), err error) {
	keep := func() {}
	if namespace == "" || p.options.NamespacedAuthDir == "" {
		return p.options.AuthFile, keep, nil
	}
	// The name is the kubelet's: short ones are completed with docker.io.
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrInvalidReference, err)
	}
	sum := sha256.Sum256([]byte(named.Name()))
	base := namespace + "-" + hex.EncodeToString(sum[:])
	taken := filepath.Join(p.options.NamespacedAuthDir, inUseDir, base+"-"+rand.Text()+".json")
	if err := os.MkdirAll(filepath.Dir(taken), 0o700); err != nil {
		return "", nil, fmt.Errorf("take the namespace's credentials: %w", err)
	}
	// Renaming is atomic: only one of two pulls gets them.
	err = os.Rename(filepath.Join(p.options.NamespacedAuthDir, base+".json"), taken)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p.options.AuthFile, keep, nil
	case err != nil:
		return "", nil, fmt.Errorf("take the namespace's credentials: %w", err)
	}
	return taken, func() {
		if err := os.Remove(taken); err != nil {
			p.log.Warn("used credentials of a namespace could not be removed", "namespace", namespace, "error", err)
		}
	}, nil
}

// removeUsedCredentials removes credentials that a crash left in use.
func removeUsedCredentials(dir string) error {
	if dir == "" {
		return nil
	}
	dir = filepath.Join(dir, inUseDir)
	left, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range left {
		if strings.HasSuffix(entry.Name(), ".json") {
			err = errors.Join(err, os.Remove(filepath.Join(dir, entry.Name())))
		}
	}
	return err
}
