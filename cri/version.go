package cri

import (
	"regexp"
	"strings"
)

var (
	// semantic is semver.org's syntax with an optional v.
	semantic = regexp.MustCompile(`^v?((?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)` +
		`(?:-(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?` +
		`(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?)$`)
	notIdentifier = regexp.MustCompile(`[^0-9a-zA-Z-]+`)
)

// semanticVersion returns a semantic version; the kubelet shows any other as "Unknown". A
// version without a number (a commit, "dev") becomes build metadata of 0.0.0.
func semanticVersion(version string) string {
	if m := semantic.FindStringSubmatch(version); m != nil {
		return m[1]
	}
	build := strings.Trim(notIdentifier.ReplaceAllString(version, "-"), "-")
	if build == "" {
		return "0.0.0"
	}
	return "0.0.0+" + build
}
