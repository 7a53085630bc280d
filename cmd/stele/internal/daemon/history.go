package daemon

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/keeper"
	"github.com/stele-runtime/stele/projections"
)

// History keeps the event log within its limits, and has metrics of it.
type History struct {
	Log    eventlog.Log
	Feed   *projections.Feed
	Limits keeper.Limits
	BootID string
	Logger *slog.Logger

	keeper atomic.Pointer[keeper.Keeper]
}

// Keep keeps the log until ctx is done. It begins after a while: who asks a daemon that starts
// does not wait for it.
func (h *History) Keep(ctx context.Context) {
	for pause(ctx, keepAfter) {
		k, err := keeper.New(ctx, keeper.Options{
			Log: h.Log, Views: ended{h.Feed}, Limits: h.Limits, BootID: h.BootID, Clock: eventlog.SystemClock{}, Logger: h.Logger,
		})
		if err == nil {
			h.keeper.Store(k)
			k.Run(ctx)
			return
		}
		h.Logger.Warn("nothing is removed from the event log", "error", err)
		if !pause(ctx, keepAgain) {
			return
		}
	}
}

// keepAfter is how long after the start the log is kept.
const keepAfter = time.Second

// Health returns why the log may exceed its limits, or nil.
func (h *History) Health() error {
	if k := h.keeper.Load(); k != nil {
		return k.Health()
	}
	return nil
}

// keepAgain is the pause before the log, which could not be read, is read again.
const keepAgain = restartAfter * 60

// ended is what has ended, as a feed knows it.
type ended struct{ *projections.Feed }

// Sequence implements keeper.Views.
func (v ended) Sequence() eventlog.Sequence { return v.Live.Sequence() }

// Lives implements keeper.Views.
func (v ended) Lives(s eventlog.Stream) bool { return v.Live.Lives(s) }

// Ended implements keeper.Views.
func (v ended) Ended() iter.Seq[keeper.Ended] {
	return func(yield func(keeper.Ended) bool) {
		for _, e := range slices.Backward(v.History.Ended()) {
			if !yield(keeper.Ended{Stream: e.Stream, Sequence: e.Sequence, Pod: strings.HasPrefix(string(e.Stream), "sandbox/")}) {
				return
			}
		}
	}
}

var (
	logBytes       = prometheus.NewDesc("stele_event_log_bytes", "Size of the event log's files.", nil, nil)
	logFree        = prometheus.NewDesc("stele_event_log_free_bytes", "How much of the event log's files holds nothing.", nil, nil)
	logRecords     = prometheus.NewDesc("stele_event_log_kept_records", "Records that the event log holds.", nil, nil)
	logOldest      = prometheus.NewDesc("stele_event_log_oldest_record_seconds", "How long the node has been up since the event log's oldest record.", nil, nil)
	logRemoved     = prometheus.NewDesc("stele_event_log_removed_records", "Records removed from the event log, as it has them on record, by rule.", []string{"rule"}, nil)
	logTooLarge    = prometheus.NewDesc("stele_event_log_too_large", "1 if what lives takes more room than history.keep_size allows for.", nil, nil)
	logCompactions = prometheus.NewDesc("stele_event_log_compactions_total", "Compactions of the event log since the daemon's start.", nil, nil)
	logUnkept      = prometheus.NewDesc("stele_event_log_keep_failures_total", "How often old records could not be removed from the event log, or its free space not be given back, since the daemon's start.", nil, nil)
	logCompaction  = prometheus.NewDesc("stele_event_log_compaction_seconds", "How long the last compaction took.", nil, nil)
)

// Describe implements prometheus.Collector.
func (h *History) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{logBytes, logFree, logRecords, logOldest, logRemoved, logTooLarge, logCompactions, logCompaction, logUnkept} {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (h *History) Collect(metrics chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	if usage, err := h.Log.Usage(context.Background()); err == nil {
		gauge(logBytes, float64(usage.Bytes))
		gauge(logFree, float64(usage.Free))
		gauge(logRecords, float64(usage.Records))
		for rule, records := range usage.Removed {
			gauge(logRemoved, float64(records), rule)
		}
	}
	k := h.keeper.Load()
	if k == nil {
		return
	}
	stats := k.Stats()
	tooLarge := 0.0
	if stats.TooLarge {
		tooLarge = 1
	}
	gauge(logOldest, stats.Oldest.Seconds())
	gauge(logTooLarge, tooLarge)
	gauge(logCompaction, stats.Compaction.Seconds())
	metrics <- prometheus.MustNewConstMetric(logUnkept, prometheus.CounterValue, float64(stats.Failures))
	metrics <- prometheus.MustNewConstMetric(logCompactions, prometheus.CounterValue, float64(stats.Compactions))
}
