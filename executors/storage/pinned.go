package storage

import (
	"errors"
	"fmt"
	"strings"
)

// pinnedPatterns say which images the kubelet's garbage collection must leave alone, by the
// rules of CRI-O's pinned_images:
//
//	registry.example/app:v1   exactly this name
//	registry.example/app*     every name that begins so
//	*keyword*                 every name that contains it
type pinnedPatterns []string

func parsePinned(patterns []string) (pinnedPatterns, error) {
	for _, pattern := range patterns {
		if err := CheckPinned(pattern); err != nil {
			return nil, fmt.Errorf("pinned image pattern %q %w", pattern, err)
		}
	}
	return pinnedPatterns(patterns), nil
}

// CheckPinned returns what is wrong with a pattern of Options.Pinned.
func CheckPinned(pattern string) error {
	text := strings.TrimSuffix(strings.TrimPrefix(pattern, "*"), "*")
	switch {
	case text == "":
		return errors.New("would pin every image")
	case strings.Contains(text, "*"):
		return errors.New("has a * that is not at an end")
	case strings.HasPrefix(pattern, "*") && !strings.HasSuffix(pattern, "*"):
		return errors.New("begins with * and so must end with it")
	}
	return nil
}

// IsPinned reports whether something with one of these full names must not be garbage
// collected. Image has a field for that; this is for what is kept elsewhere.
func (m *Images) IsPinned(names ...string) bool { return m.catalog.pinned.match(names...) }

func (p pinnedPatterns) match(names ...string) bool {
	for _, pattern := range p {
		for _, name := range names {
			if matchPinned(pattern, name) {
				return true
			}
		}
	}
	return false
}

func matchPinned(pattern, name string) bool {
	prefix, isPrefix := strings.CutSuffix(pattern, "*")
	if !isPrefix {
		return pattern == name
	}
	if keyword, isKeyword := strings.CutPrefix(prefix, "*"); isKeyword {
		return strings.Contains(name, keyword)
	}
	return strings.HasPrefix(name, prefix)
}
