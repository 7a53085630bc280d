package registry

import (
	"context"
	"testing"

	"github.com/stele-runtime/stele/test/images"
)

func TestPullsBeginAndEndOnce(t *testing.T) {
	server := images.Registry(t)
	began, ended := 0, 0
	n := newNode(t, server, func(o *nodeOptions) {
		o.Change = func(o *Options) {
			o.Pulling = func() func() {
				began++
				return func() { ended++ }
			}
		}
	})
	n.pull(t, server.Push(t, "app:v1", small(t, images.Here(), "content")))
	if began != 1 || ended != 1 {
		t.Errorf("%d pulls began, %d ended, of one that succeeded", began, ended)
	}
	if _, err := n.puller.Pull(context.Background(), PullRequest{Ref: server.Host + "/app:none"}); err == nil {
		t.Fatal("an image that is not there was pulled")
	}
	if began != 2 || ended != 2 {
		t.Errorf("%d pulls began, %d ended, of two", began, ended)
	}
}
