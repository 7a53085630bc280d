package executors

import (
	"context"
	"errors"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/executors/registry"
	"github.com/stele-runtime/stele/executors/storage"
)

// fetchImage pulls an image with the credentials of those who asked. Without an
// entry for them the pull was begun by another daemon: it is over.
func (x *Executor) fetchImage(ctx context.Context, f image.FetchImage) image.FetchImageDone {
	done := image.FetchImageDone{Pull: f.Pull}
	auth, ours := x.Credentials.find(f.Pull)
	if !ours {
		done.Err = fault.New(fault.Interrupted, "pull image", f.Ref, "the daemon was restarted during the pull")
		return done
	}
	pulled, err := x.Registry.Pull(ctx, registry.PullRequest{
		Ref: f.Ref,
		Credentials: registry.Credentials{
			Username: auth.GetUsername(), Password: auth.GetPassword(), Auth: auth.GetAuth(),
			IdentityToken: auth.GetIdentityToken(), RegistryToken: auth.GetRegistryToken(), ServerAddress: auth.GetServerAddress(),
		},
	})
	if err != nil {
		done.Err = pullFault(f.Ref, err)
		return done
	}
	done.ImageID, done.Digest, done.Bytes = pulled.ImageID, pulled.Digest, pulled.Bytes
	return done
}

// pullFault says of which kind a failed pull is.
func pullFault(ref string, err error) error {
	for _, k := range []struct {
		cause error
		kind  fault.Kind
	}{
		{registry.ErrInvalidReference, fault.Invalid},
		{registry.ErrNotFound, fault.NotFound},
		{registry.ErrUnauthorized, fault.Unauthorized},
		{registry.ErrRateLimited, fault.RateLimited},
		{registry.ErrPolicy, fault.SignatureRefused},
		{registry.ErrUnavailable, fault.Unavailable},
		{registry.ErrUnsupportedPlatform, fault.Precondition},
	} {
		if errors.Is(err, k.cause) {
			return fault.New(k.kind, "pull image", ref, "%v", err)
		}
	}
	return err
}

func (x *Executor) deleteImage(ctx context.Context, ref string) error {
	err := x.Store.Remove(ctx, ref)
	switch {
	case errors.Is(err, storage.ErrImageInUse):
		return fault.New(fault.Precondition, "remove image", ref, "%v", err)
	case errors.Is(err, storage.ErrImageNotFound):
		return nil
	}
	return err
}
