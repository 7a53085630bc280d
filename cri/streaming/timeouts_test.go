package streaming_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	clientspdy "k8s.io/client-go/transport/spdy"

	"github.com/stele-runtime/stele/cri/streaming"
	"github.com/stele-runtime/stele/executors/streams"
)

// A connection on which nothing moves is ended, and its command with it.
func TestIdleTimeout(t *testing.T) {
	l := newLab(t, func(c *streaming.Config) { c.IdleTimeout = 10 * time.Millisecond })
	for i, tr := range transports {
		if tr.name != "SPDY" && tr.name != "WebSocket" {
			continue
		}
		ended := make(chan error, 1)
		u := l.must(l.Exec(streaming.Command{Stdin: true, Stdout: true, Run: func(ctx context.Context, _ streams.Stdio) (int, error) {
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return 0, nil
		}}))
		left := make(chan struct{})
		go func() {
			defer close(left)
			_ = l.stream(context.Background(), i, u, remotecommand.StreamOptions{Stdin: never(t), Stdout: io.Discard})
		}()
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "nothing was sent or received for") {
			t.Errorf("%s: the command ended with %v", tr.name, err)
		}
		<-left
	}
}

// A client that does not open its streams in time loses its connection.
func TestCreationTimeout(t *testing.T) {
	l := newLab(t, func(c *streaming.Config) { c.CreationTimeout = 10 * time.Millisecond })
	before := goroutines()
	u, err := url.Parse(l.must(l.Exec(streaming.Command{Stdout: true, Run: func(context.Context, streams.Stdio) (int, error) {
		t.Error("the command ran")
		return 0, nil
	}})))
	if err != nil {
		t.Fatal(err)
	}
	transport, upgrader, err := clientspdy.RoundTripperFor(&rest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	conn, _, err := clientspdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, "POST", u).Dial("v4.channel.k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	<-conn.CloseChan()
	conn.Close()
	l.noMoreGoroutines(before)
}
