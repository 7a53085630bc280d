package images

import (
	"context"
	"testing"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/compression"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
)

// Form is a form to which an image can be converted, but in which none is built.
type Form int

const (
	// Schema1 is Docker's first manifest format, with signatures inside.
	Schema1 Form = iota
	// ZstdChunked has layers from which single files can be fetched.
	ZstdChunked
)

// Convert copies an image of the registry to "path:tag", in another form, and returns
// the copy's full name.
func (s *Server) Convert(t testing.TB, from, pathAndTag string, form Form) string {
	t.Helper()
	target := s.tag(t, pathAndTag).String()
	options := &copy.Options{SourceCtx: s.system(t), DestinationCtx: s.system(t)}
	switch form {
	case Schema1:
		options.ForceManifestMIMEType = manifest.DockerV2Schema1SignedMediaType
	case ZstdChunked:
		options.DestinationCtx.CompressionFormat, options.ForceCompressionFormat = &compression.ZstdChunked, true
		options.ForceManifestMIMEType = "application/vnd.oci.image.manifest.v1+json"
	}
	judge, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := copy.Image(context.Background(), judge, transport(t, target), transport(t, from), options); err != nil {
		t.Fatalf("convert %s to %s: %v", from, target, err)
	}
	if err := judge.Destroy(); err != nil {
		t.Fatal(err)
	}
	return target
}

func (s *Server) system(t testing.TB) *types.SystemContext {
	return &types.SystemContext{
		SystemRegistriesConfPath: s.RegistriesConf, SystemRegistriesConfDirPath: s.RegistriesConfDir,
		BlobInfoCacheDir: t.TempDir(), BigFilesTemporaryDir: t.TempDir(),
	}
}

func transport(t testing.TB, name string) types.ImageReference {
	t.Helper()
	ref, err := docker.ParseReference("//" + name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}
