package executors

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/executors/images"
	"github.com/stele-runtime/stele/executors/registry"
)

// fetcher carries out the effects that bring images.
type fetcher struct{ *Config }

// fetch pulls an image with its callers' credentials. Without an entry for them
// the pull was begun by another daemon, and is over.
func (x fetcher) fetch(ctx context.Context, f image.FetchImage) image.FetchImageDone {
	done := image.FetchImageDone{Pull: f.Pull}
	auth, ours := x.Credentials.Find(f.Pull)
	if !ours {
		done.Err = fault.New(fault.Interrupted, "pull image", f.Ref, "the daemon was restarted during the pull")
		return done
	}
	namespace, err := namespaceOf(f.SandboxConfig)
	if err != nil {
		done.Err = err
		return done
	}
	x.Pulls.Begin(f.Ref, f.Pull)
	defer x.Pulls.End(f.Pull)
	news := x.newsOf(ctx, f)
	pulled, err := x.Registry.Pull(ctx, registry.PullRequest{
		Ref: f.Ref, Namespace: namespace, Artifacts: true, Progress: news.take,
		Credentials: registry.Credentials{
			Username: auth.GetUsername(), Password: auth.GetPassword(), Auth: auth.GetAuth(),
			IdentityToken: auth.GetIdentityToken(), RegistryToken: auth.GetRegistryToken(), ServerAddress: auth.GetServerAddress(),
		},
	})
	news.end()
	done.Bytes = pulled.Bytes
	if err != nil {
		done.Bytes = max(done.Bytes, x.Pulls.Transferred(f.Pull))
		done.Err = images.Fault("pull image", f.Ref, err)
		return done
	}
	done.ImageID, done.Digest = pulled.ImageID, pulled.Digest
	if pulled.Artifact != nil {
		done.ImageID = pulled.Artifact.ID()
	}
	return done
}

// load loads the images of an archive; those that are there are not loaded
// again.
func (x fetcher) load(ctx context.Context, f image.LoadImages) image.LoadImagesDone {
	done := image.LoadImagesDone{Load: f.Load}
	loaded, err := x.Registry.Load(ctx, registry.LoadRequest{Source: f.Ref, Name: f.Name})
	for _, l := range loaded {
		done.Images = append(done.Images, image.Loaded{Name: l.Name, ImageID: l.ImageID, Digest: l.Digest})
	}
	if err != nil {
		done.Err = images.Fault("load images", f.Ref, err)
	}
	return done
}

// namespaceOf is the namespace of the pod for which an image is pulled; empty
// without a pod.
func namespaceOf(pod []byte) (string, error) {
	var config runtimeapi.PodSandboxConfig
	if err := decode(pod, &config); err != nil {
		return "", err
	}
	return config.GetMetadata().GetNamespace(), nil
}
