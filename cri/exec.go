package cri

import (
	"context"
	"errors"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/cri/streaming"
	"github.com/stele-runtime/stele/executors/streams"
)

// Exec returns a URL at which a client runs a command in a running container, connected to
// its streams. The command begins when the client has come.
func (s streamService) Exec(_ context.Context, req *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if err := checkCommand(req.GetCmd()); err != nil {
		return nil, err
	}
	if err := checkStreams(req); err != nil {
		return nil, err
	}
	found, err := s.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := checkRuns("exec in container", found.State); err != nil {
		return nil, err
	}
	id := found.State.ID
	command := container.RunExec{Command: req.GetCmd(), Attended: true, Stdin: req.GetStdin(), TTY: req.GetTty()}
	url, err := s.Streams.Exec(streaming.Command{
		Stdin: req.GetStdin(), Stdout: req.GetStdout(), Stderr: req.GetStderr(), TTY: req.GetTty(),
		Run: func(ctx context.Context, stdio streams.Stdio) (int, error) {
			ended, err := s.run(ctx, id, command, stdio)
			return ended.Code, redacted(err)
		},
	})
	if err != nil {
		return nil, streamsRefused(err)
	}
	return &runtimeapi.ExecResponse{Url: url}, nil
}

// streamsRequest is what requests for streams have in common.
type streamsRequest interface {
	GetStdin() bool
	GetStdout() bool
	GetStderr() bool
	GetTty() bool
}

// checkStreams refuses combinations that the CRI excludes.
func checkStreams(req streamsRequest) error {
	switch {
	case !req.GetStdin() && !req.GetStdout() && !req.GetStderr():
		return invalid("stdin, stdout, stderr", "none of them is true")
	case req.GetTty() && req.GetStderr():
		return invalid("stderr", "is true with tty, and a terminal has one output")
	}
	return nil
}

// redacted is an error as a stream's client may see it.
func redacted(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(redact.Text(err.Error()))
}
