package handover

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"sync"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/actors/id"
)

// Credentials keeps what pulls authenticate with. A pull that is not found here was
// begun by another daemon, and so was interrupted.
type Credentials struct {
	// key makes the ids of pulls useless for guessing a password.
	key [32]byte

	mu    sync.Mutex
	pulls map[id.Pull]*keptAuth
}

type keptAuth struct {
	auth *runtimeapi.AuthConfig
	// uses counts the requests that hold the entry.
	uses int
}

// NewCredentials returns an empty vault.
func NewCredentials() *Credentials {
	c := &Credentials{pulls: map[id.Pull]*keptAuth{}}
	_, _ = rand.Read(c.key[:]) // never fails, by its contract
	return c
}

// Keep returns the id under which a pull of ref for a pod of the namespace finds the
// credentials, until drop is called. Namespaces may have signature policies and
// credentials of their own, so that their pulls are not one.
func (c *Credentials) Keep(ref, namespace string, auth *runtimeapi.AuthConfig) (pull id.Pull, drop func()) {
	mac := hmac.New(sha256.New, c.key[:])
	mac.Write([]byte(ref))
	mac.Write([]byte{0})
	mac.Write([]byte(namespace))
	mac.Write([]byte{0})
	// The encoding of so flat a message cannot fail.
	encoded, _ := proto.MarshalOptions{Deterministic: true}.Marshal(auth)
	mac.Write(encoded)
	pull = id.Pull(hex.EncodeToString(mac.Sum(nil)[:16]))

	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.pulls[pull]
	if kept == nil {
		kept = &keptAuth{auth: auth}
		c.pulls[pull] = kept
	}
	kept.uses++
	return pull, sync.OnceFunc(func() { c.drop(pull) })
}

func (c *Credentials) drop(pull id.Pull) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.pulls[pull]
	if kept.uses--; kept.uses == 0 {
		delete(c.pulls, pull)
	}
}

// Find returns the credentials of a pull; false if this daemon never had them.
func (c *Credentials) Find(pull id.Pull) (*runtimeapi.AuthConfig, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept, ok := c.pulls[pull]
	if !ok {
		return nil, false
	}
	return kept.auth, true
}
