package storage

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
)

func TestWhatTheLibraryCallsInformationIsDebugging(t *testing.T) {
	var log strings.Builder
	hook := logHook{logger: slog.New(slog.NewTextHandler(&log, nil))}
	for level, want := range map[logrus.Level]string{
		logrus.InfoLevel:  "",
		logrus.WarnLevel:  "level=WARN",
		logrus.ErrorLevel: "level=ERROR",
	} {
		log.Reset()
		if err := hook.Fire(&logrus.Entry{Level: level, Message: "words"}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log.String(), want) || (want == "") != (log.Len() == 0) {
			t.Errorf("%s is logged as %q, want %q", level, log.String(), want)
		}
	}
}

func TestWhatOthersSayIsNotLogged(t *testing.T) {
	for message, want := range map[string]string{
		`Warning from registry (first encountered at "https://lab.test/v2/x?token=secret"): "your password is secret"`: "a registry sent a warning, which is not shown: it can contain anything",
		"Reading blob body from https://user:secret@lab.test/a/b?sign=secret&x=1#secret failed (EOF), reconnecting…":   "Reading blob body from https://[redacted]@lab.test/a/b?[redacted] failed (EOF), reconnecting…",
		`Trying to access "lab.test/app:v1"`:                         `Trying to access "lab.test/app:v1"`,
		`both "https://a.test/?secret" and 'https://b.test/?secret'`: `both "https://a.test/?[redacted]" and 'https://b.test/?[redacted]'`,
		"not an address: https://%zz/secret":                         "not an address: [redacted address]",
		strings.Repeat("é", maxLogged):                               strings.Repeat("é", maxLogged/2) + "…",
	} {
		if got := discreet(message); got != want || strings.Contains(got, "secret") {
			t.Errorf("%s\nis logged as\n%s\nwant\n%s", message, got, want)
		}
	}
}
