package storage

import (
	"context"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"strings"

	"github.com/sirupsen/logrus"
)

// maxLogged bounds a message of the libraries, in bytes: others write a part of it.
const maxLogged = 2048

// RouteLibraryLogs sends what the image libraries log (through logrus, a global)
// to logger. They are talkative: what they call information is debugging to a
// daemon that is quiet when all is well, so it is passed on one level lower, and
// their debug output not at all. What a registry says in a warning is
// not passed on, nor what may be a credential in an address. To be called once, by main.
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

// How a message begins that repeats the header "Warning" of an answer, and what is
// logged instead.
const (
	warningOfRegistry = "Warning from registry"
	warningNotShown   = "a registry sent a warning, which is not shown: it can contain anything"
)

var address = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>]+`)

// discreet makes a message that can be logged.
func discreet(message string) string {
	if strings.HasPrefix(message, warningOfRegistry) {
		return warningNotShown
	}
	message = address.ReplaceAllStringFunc(message, withoutSecrets)
	if len(message) > maxLogged {
		message = strings.ToValidUTF8(message[:maxLogged], "") + "…"
	}
	return message
}

// withoutSecrets takes user, password, query and fragment from an address. Registries
// send clients to places that are open to whoever knows the query.
func withoutSecrets(text string) string {
	parsed, err := url.Parse(text)
	if err != nil {
		return "(an address)"
	}
	return (&url.URL{Scheme: parsed.Scheme, Host: parsed.Host, Path: parsed.Path}).String()
}
