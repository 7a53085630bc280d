package daemon

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/executors/handover"
)

type log struct{ health error }

func (l *log) Last() eventlog.Sequence { return 7 }
func (l *log) Health() error           { return l.health }
func (l *log) Stats() boltlog.Stats {
	return boltlog.Stats{Records: 5, Commits: 2, CommitTime: 1500 * time.Millisecond}
}

func TestMetrics(t *testing.T) {
	l := &log{}
	v := &views{
		past:    entity.Past{Containers: map[id.Container]entity.Restored[container.State]{"a": {}, "b": {}}},
		damaged: map[eventlog.Stream]string{"container/x": "torn"},
	}
	listener, err := ListenMetrics("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	server := MetricsServer{Listener: listener, Registry: Metrics(l, v, handover.NewPulls()), Logger: quiet}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Serve(ctx)
	}()
	scrape := func() string {
		t.Helper()
		answer, err := http.Get("http://" + listener.Addr().String() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	text := scrape()
	for _, line := range []string{
		"stele_sandboxes 0", "stele_containers 2", "stele_streams_quarantined 1", "stele_image_pulls 0", "stele_event_log_records_total 5",
		"stele_event_log_commits_total 2", "stele_event_log_commit_seconds_total 1.5", "stele_event_log_healthy 1",
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("%q is not among the metrics", line)
		}
	}
	l.health = errors.New("the disk is full")
	if !strings.Contains(scrape(), "\nstele_event_log_healthy 0\n") {
		t.Error("a log that cannot be written is healthy")
	}
	stop()
	ends(t, "the server", ended)
}

func TestNoMetrics(t *testing.T) {
	listener, err := ListenMetrics("")
	if listener != nil || err != nil {
		t.Fatalf("%v, %v", listener, err)
	}
	(&MetricsServer{Logger: quiet}).Serve(t.Context()) // returns
	if _, err := ListenMetrics("127.0.0.1:none"); err == nil || !strings.HasPrefix(err.Error(), "metrics.listen: ") {
		t.Errorf("an address that cannot be: %v", err)
	}
}
