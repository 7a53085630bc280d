package streaming

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/stele-runtime/stele/executors/streams"
)

// Command is a function between a client's standard streams.
type Command struct {
	// Stdin, Stdout and Stderr say which streams the client has, TTY that it has a
	// terminal, whose size it sends.
	Stdin, Stdout, Stderr, TTY bool
	// Run returns what becomes the client's exit code, from 0 to 255, or an error for the
	// client to show. Its context ends when the client has gone.
	Run func(ctx context.Context, s streams.Stdio) (code int, err error)
}

// Exec returns a URL for a command that is executed.
func (s *Server) Exec(c Command) (url string, err error) { return s.offer("exec", c) }

// Attach returns a URL for a command that is there already.
func (s *Server) Attach(c Command) (url string, err error) { return s.offer("attach", c) }

// channels are a client's streams, by whatever transport.
type channels struct {
	stdin          io.ReadCloser
	stdout, stderr io.Writer
	// sizes is nil if the client sends none.
	sizes io.Reader
	// endOutput tells the client that it has all output.
	endOutput func()
	// status is written once, and says how the command ended. jsonStatus: as JSON; else
	// only failures are told, as text.
	status     io.Writer
	jsonStatus bool
	// close ends the connection, and all reading.
	close func()
}

// serve runs the command.
func (c Command) serve(ctx context.Context, q *request) {
	open := c.openSPDY
	if wsstream.IsWebSocketRequest(q.Request) {
		open = c.openWebSocket
	}
	ch, err := open(ctx, q)
	if err != nil {
		q.server.config.Logger.Debug("a client's streams were not opened", "error", err)
		return
	}
	var resizing sync.WaitGroup
	defer resizing.Wait()
	defer ch.close()
	stdio := streams.Stdio{Terminal: streams.Never}
	if c.TTY {
		stdio.Terminal = streams.Always
	}
	// Assigned only if there: an interface with a nil pointer is not nil.
	if c.Stdin {
		stdio.Stdin = ch.stdin
	}
	if c.Stdout {
		stdio.Stdout = ch.stdout
	}
	if c.Stderr {
		stdio.Stderr = ch.stderr
	}
	if ch.sizes != nil {
		sizes := make(chan streams.Size, 1)
		stdio.Sizes = sizes
		resizing.Go(func() { readSizes(ctx, ch.sizes, sizes) })
	}
	code, err := c.run(ctx, q.server, stdio)
	ch.endOutput()
	ch.tell(code, err)
}

// run turns a panic into an error.
func (c Command) run(ctx context.Context, s *Server, stdio streams.Stdio) (code int, err error) {
	err = fmt.Errorf("the daemon panicked")
	defer s.recover()
	return c.Run(ctx, stdio)
}

// maxSize is more than a terminal's size takes as JSON, in bytes.
const maxSize = 1 << 10

// readSizes reads sizes until the end, or until one is no size.
func readSizes(ctx context.Context, from io.Reader, to chan<- streams.Size) {
	defer close(to)
	bounded := &io.LimitedReader{R: from}
	decoder := json.NewDecoder(bounded)
	for {
		bounded.N = maxSize
		var size remotecommand.TerminalSize
		if decoder.Decode(&size) != nil {
			// The client must not wait until the rest is read.
			_, _ = io.Copy(io.Discard, from)
			return
		}
		select {
		case to <- streams.Size(size):
		case <-ctx.Done():
			return
		}
	}
}

// status is the part of Kubernetes' meta/v1.Status that clients read.
type status struct {
	Status  string         `json:"status"`
	Message string         `json:"message,omitempty"`
	Reason  string         `json:"reason,omitempty"`
	Details *statusDetails `json:"details,omitempty"`
	Code    int            `json:"code,omitempty"`
}

type statusDetails struct {
	Causes []statusCause `json:"causes"`
}

type statusCause struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// statusOf says how a command ended.
func statusOf(code int, err error) status {
	switch {
	case err != nil:
		return status{Status: "Failure", Reason: "InternalError", Message: err.Error(), Code: http.StatusInternalServerError}
	case code != 0:
		return status{
			Status: "Failure", Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: %d", code),
			Details: &statusDetails{Causes: []statusCause{{Reason: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(code)}}},
		}
	}
	return status{Status: "Success"}
}

// tell tells the client how its command ended. If that fails, it has gone.
func (ch *channels) tell(code int, err error) {
	s := statusOf(code, err)
	switch {
	case ch.jsonStatus:
		_ = json.NewEncoder(ch.status).Encode(s)
	case s.Message != "":
		_, _ = io.WriteString(ch.status, s.Message)
	}
}
