package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/cri/streaming"
	"github.com/stele-runtime/stele/executors/streams"
)

// Attach returns a URL at which a client is connected to the streams of a running
// container: any number of clients at a time, each from the moment it comes.
func (s streamService) Attach(_ context.Context, req *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if err := checkStreams(req); err != nil {
		return nil, err
	}
	found, err := s.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := checkRuns("attach to container", found.State); err != nil {
		return nil, err
	}
	// The other way round is fine: all output is on stdout.
	if req.GetTty() && !found.Config().GetTty() {
		return nil, invalid("tty", "is true, and the container has no terminal")
	}
	id := found.State.ID
	url, err := s.Streams.Attach(streaming.Command{
		Stdin: req.GetStdin(), Stdout: req.GetStdout(), Stderr: req.GetStderr(), TTY: req.GetTty(),
		Run: func(ctx context.Context, stdio streams.Stdio) (int, error) {
			return 0, redacted(s.Processes.Attach(ctx, id, stdio))
		},
	})
	if err != nil {
		return nil, streamsRefused(err)
	}
	return &runtimeapi.AttachResponse{Url: url}, nil
}
