package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/executors/handover"
)

// Metrics returns the metrics, which are read at each scrape, with others.
func Metrics(log Log, live Views, pulls *handover.Pulls, others ...prometheus.Collector) *prometheus.Registry {
	r := prometheus.NewRegistry()
	gauge := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "stele", Name: name, Help: help}, value))
	}
	counter := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "stele", Name: name, Help: help}, value))
	}
	gauge("sandboxes", "Pod sandboxes that have not ended.", func() float64 { return float64(len(live.Sandboxes())) })
	gauge("containers", "Containers that have not ended.", func() float64 { return float64(len(live.Containers())) })
	gauge("streams_quarantined", "Streams of the event log that cannot be used.", func() float64 { return float64(len(live.Damaged())) })
	counter("event_log_records_passed_over_total", "Records of types that only a newer version knows, since the daemon's start.", func() float64 { return float64(live.PassedOver()) })
	gauge("image_pulls", "Pulls under way.", func() float64 { return float64(len(pulls.Transfers())) })
	gauge("image_pull_layers", "Layers that pulls under way are fetching or have fetched.", func() float64 {
		layers := 0
		for _, t := range pulls.Transfers() {
			layers += len(t.Layers)
		}
		return float64(layers)
	})
	counter("image_pull_bytes_total", "Bytes that pulls have fetched since the daemon's start.", func() float64 { return float64(pulls.Fetched()) })
	counter("event_log_records_total", "Records appended since the daemon's start.", func() float64 { return float64(log.Stats().Records) })
	counter("event_log_commits_total", "Commits that made the records durable.", func() float64 { return float64(log.Stats().Commits) })
	counter("event_log_commit_seconds_total", "Time spent in these commits.", func() float64 { return log.Stats().CommitTime.Seconds() })
	counter("event_log_wait_seconds_total", "Time from the appends' arrival to their answers.", func() float64 { return log.Stats().WaitTime.Seconds() })
	gauge("event_log_healthy", "1 if the event log can be written.", func() float64 {
		if err := log.Health(); err != nil && !errors.Is(err, eventlog.ErrDegraded) {
			return 0
		}
		return 1
	})
	gauge("event_log_degraded", "1 if appends take longer because the event log's journal has failed.", func() float64 {
		if errors.Is(log.Health(), eventlog.ErrDegraded) {
			return 1
		}
		return 0
	})
	r.MustRegister(others...)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// MetricsServer serves metrics under /metrics.
type MetricsServer struct {
	// Listener is nil if no metrics are served.
	Listener net.Listener
	Registry *prometheus.Registry
	Logger   *slog.Logger
}

// ListenMetrics opens the address of metrics.listen; nil if it is empty.
func ListenMetrics(address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("metrics.listen: %w", err)
	}
	return listener, nil
}

// Serve serves until ctx is done, and closes the listener.
func (m *MetricsServer) Serve(ctx context.Context) {
	if m.Listener == nil {
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.Registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })() // a scrape can be repeated
	m.Logger.Info("serving metrics", "address", m.Listener.Addr().String())
	if err := server.Serve(m.Listener); !errors.Is(err, http.ErrServerClosed) {
		m.Logger.Error("metrics no longer served", "address", m.Listener.Addr().String(), "error", err)
	}
}
