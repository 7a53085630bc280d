package storage

import (
	"context"
	"io"
	"log/slog"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/stele-runtime/stele/actors/redact"
)

// maxLogged bounds a message of the libraries, in bytes: strangers write a part of it.
const maxLogged = 2048

// RouteLibraryLogs sends what the image libraries log (through logrus, a global) to logger.
// They are talkative: their information becomes debug output here, and their debug output
// is dropped. So are a registry's warnings, and what may be a credential in an address.
// main calls it once.
func RouteLibraryLogs(logger *slog.Logger) {
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.InfoLevel)
	logrus.AddHook(logHook{logger: logger})
}

type logHook struct{ logger *slog.Logger }

// Levels is part of logrus.Hook.
func (logHook) Levels() []logrus.Level {
	return []logrus.Level{
		logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel, logrus.WarnLevel, logrus.InfoLevel,
	}
}

// Fire is part of logrus.Hook.
func (h logHook) Fire(entry *logrus.Entry) error {
	level := slog.LevelDebug
	switch entry.Level {
	case logrus.WarnLevel:
		level = slog.LevelWarn
	case logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel:
		level = slog.LevelError
	}
	message := discreet(entry.Message)
	if message == warningNotShown {
		level = slog.LevelDebug
	}
	h.logger.Log(context.Background(), level, message, "library", "containers")
	return nil
}

// How a message begins that repeats an answer's "Warning" header, and what is logged
// instead.
const (
	warningOfRegistry = "Warning from registry"
	warningNotShown   = "a registry sent a warning, which is not shown: it can contain anything"
)

// discreet makes a message that can be logged.
func discreet(message string) string {
	if strings.HasPrefix(message, warningOfRegistry) {
		return warningNotShown
	}
	message = redact.Text(message)
	if len(message) > maxLogged {
		message = strings.ToValidUTF8(message[:maxLogged], "") + "…"
	}
	return message
}
