package id

import (
	"crypto/sha256"
	"encoding/hex"
)

// ImageKey is the id of an image reference's stream. A reference may be longer than a stream's
// name, and contain any character.
func ImageKey(ref string) string {
	sum := sha256.Sum256([]byte(ref))
	return hex.EncodeToString(sum[:])
}
