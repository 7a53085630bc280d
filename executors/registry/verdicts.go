package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// maxVerdicts bounds how many are kept.
	maxVerdicts = 256
	// refusalsKept is how long a refusal is kept: signatures may be added, and registries
	// come back.
	refusalsKept = time.Minute
)

// verdicts are what came of asking registries for signatures, so that a container that
// fails again and again does not ask each time. They are in memory only.
type verdicts struct {
	mu    sync.Mutex
	known map[asked]verdict
}

// asked is what a verdict holds for: an edited policy, or another key, is asked anew.
type asked struct {
	policy   string // see fingerprint
	name     string
	manifest digest.Digest
}

type verdict struct {
	refused error // nil if it was accepted
	at      time.Time
}

func (v *verdicts) find(key asked) (known bool, refused error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	found, known := v.known[key]
	if known && found.refused != nil && time.Since(found.at) > refusalsKept {
		return false, nil
	}
	return known, found.refused
}

// remember drops all others when there are too many, which costs them a question each.
func (v *verdicts) remember(key asked, refused error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.known == nil || len(v.known) >= maxVerdicts {
		v.known = map[asked]verdict{}
	}
	v.known[key] = verdict{refused: refused, at: time.Now()}
}

// fingerprint identifies a policy: its text and that of the files that it names.
func fingerprint(policy []byte) string {
	hash := sha256.New()
	hash.Write(policy)
	for _, file := range keyFiles(policy) {
		content, err := os.ReadFile(file)
		fmt.Fprintf(hash, "\n%q %x %v", file, sha256.Sum256(content), err)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

func sortedKeys(of map[string]any) []string { return slices.Sorted(maps.Keys(of)) }
