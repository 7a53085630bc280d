package nri

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/nri/pkg/api"
	liblog "github.com/containerd/nri/pkg/log"
	"google.golang.org/protobuf/proto"
)

// witness is told by the library what each plug-in did: the only place where it says which
// plug-in an error or an adjustment is from. It is the library's Metrics.
type witness struct {
	logger *slog.Logger
	// plugins is how many there are, the validator included. One whose connection was lost
	// counts until the next hook.
	plugins atomic.Int64

	mu       sync.Mutex
	adjusted []string
	failed   []failure
}

// failure is a plug-in's in the hook under way.
type failure struct {
	plugin string
	err    error
}

func (w *witness) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.adjusted, w.failed = nil, nil
}

func (w *witness) end() (adjusted []string, failed []failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.adjusted, w.failed
}

// RecordPluginInvocation is the library's.
func (w *witness) RecordPluginInvocation(plugin, _ string, err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = append(w.failed, failure{plugin, err})
}

// RecordPluginLatency is the library's.
func (w *witness) RecordPluginLatency(string, string, time.Duration) {}

// RecordPluginAdjustments is the library's.
func (w *witness) RecordPluginAdjustments(plugin, hook string, adjust *api.ContainerAdjustment, _, evicts int) {
	if evicts > 0 {
		w.logger.Warn("an NRI plug-in asks for evictions, which the NRI library does not pass on", "plugin", plugin, "hook", hook)
	}
	if adjust == nil || proto.Size(adjust) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.adjusted = append(w.adjusted, plugin)
}

// UpdatePluginCount is the library's.
func (w *witness) UpdatePluginCount(n int) { w.plugins.Store(int64(n)) }

// blame returns a plug-in's error with its name and without the transport's words.
func blame(err error, failed []failure) error {
	text := err.Error()
	if _, plain, is := strings.Cut(text, " desc = "); is {
		text = plain
	}
	text = shortened(text)
	for _, f := range failed {
		// The library hands on a plug-in's refusal as it is, without a name. Conflicts and
		// failed validations have theirs.
		if errors.Is(err, f.err) {
			return fmt.Errorf("the NRI plug-in %s refuses: %s", f.plugin, text)
		}
	}
	return fmt.Errorf("NRI plug-ins: %s", text)
}

// maxText bounds what a plug-in's words take in an error or a log line, in bytes.
const maxText = 2048

func shortened(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}

// RouteLibraryLogs sends what the library logs, which is a global matter, to logger. main
// calls it once.
func RouteLibraryLogs(logger *slog.Logger) { liblog.Set(library{logger}) }

// library is the library's logger. A plug-in that fails is no failure of the daemon.
type library struct{ logger *slog.Logger }

func (l library) log(ctx context.Context, level slog.Level, format string, args ...any) {
	l.logger.Log(ctx, level, shortened(fmt.Sprintf(format, args...)), "library", "nri")
}

// Debugf is the library's.
func (l library) Debugf(ctx context.Context, format string, args ...any) {
	l.log(ctx, slog.LevelDebug, format, args...)
}

// Infof is the library's, which is talkative.
func (l library) Infof(ctx context.Context, format string, args ...any) {
	l.log(ctx, slog.LevelDebug, format, args...)
}

// Warnf is the library's.
func (l library) Warnf(ctx context.Context, format string, args ...any) {
	l.log(ctx, slog.LevelWarn, format, args...)
}

// Errorf is the library's.
func (l library) Errorf(ctx context.Context, format string, args ...any) {
	l.log(ctx, slog.LevelWarn, format, args...)
}
