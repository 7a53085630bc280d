package storage

import (
	"context"
	"io"
	"log/slog"

	"github.com/sirupsen/logrus"
	"go.podman.io/storage/pkg/reexec"
)

// Reexec must be the first call in main, and in the TestMain of every test binary
// that opens a Store; when it returns true the program must return at once.
//
// The library executes the running program again, under another argv[0], for work
// that changes the process itself: storage-untar, storage-applyLayer and
// storage-tar unpack and pack inside a chroot, storage-mountfrom mounts overlays
// whose options are longer than a page from within the store's directory, and
// storage-chown-by-maps rewrites owners. Reexec recognises these names, does the
// work and returns true. Without the call the library panics at the first layer.
//
// Each layer of a pull costs a start of the program, therefore, with all that packages
// do before main: one that fills tables there for 30 ms makes a pull of 40 layers more
// than a second longer. GODEBUG=inittrace=1 shows what they do.
func Reexec() bool {
	return reexec.Init()
}

// RouteLibraryLogs sends what the image libraries log (through logrus, a global)
// to logger. They are talkative: what they call information is debugging to a
// daemon that is quiet when all is well, so it is passed on one level lower, and
// their debug output not at all. To be called once, by main.
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
	h.logger.Log(context.Background(), level, entry.Message, "library", "containers")
	return nil
}
