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
