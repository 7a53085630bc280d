package streaming

import (
	"context"
	"log/slog"

	"k8s.io/klog/v2"
)

// RouteLibraryLogs sends what the transports log to a logger, at the level debug: it is
// about single clients, some of which break off.
func RouteLibraryLogs(logger *slog.Logger) {
	klog.SetSlogLogger(slog.New(asDebug{logger.Handler()}).With("library", "k8s.io/streaming"))
}

// asDebug logs everything at the level debug.
type asDebug struct{ slog.Handler }

func (h asDebug) Enabled(ctx context.Context, _ slog.Level) bool {
	return h.Handler.Enabled(ctx, slog.LevelDebug)
}

func (h asDebug) Handle(ctx context.Context, r slog.Record) error {
	if !h.Enabled(ctx, slog.LevelDebug) {
		return nil // errors come without a question
	}
	r.Level = slog.LevelDebug
	return h.Handler.Handle(ctx, r)
}

func (h asDebug) WithAttrs(attrs []slog.Attr) slog.Handler {
	return asDebug{h.Handler.WithAttrs(attrs)}
}

func (h asDebug) WithGroup(name string) slog.Handler { return asDebug{h.Handler.WithGroup(name)} }
