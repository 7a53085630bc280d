package registry

import (
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/stele-runtime/stele/executors/storage"
	"github.com/stele-runtime/stele/test/images"
)

// A registry's header Warning can have anything, even the credentials that it was just
// sent.
func TestWarningsOfARegistryAreNotLogged(t *testing.T) {
	var log locked
	hooks, level := logrus.StandardLogger().ReplaceHooks(logrus.LevelHooks{}), logrus.GetLevel()
	storage.RouteLibraryLogs(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	t.Cleanup(func() {
		logrus.StandardLogger().ReplaceHooks(hooks)
		logrus.SetLevel(level)
		logrus.SetOutput(os.Stderr)
	})
	server := images.Registry(t)
	n := newNode(t, server)
	ref := server.Push(t, "app:v1", small(t, images.Here(), "content"))
	server.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Add("Warning", `299 - "the password is hunter2"`)
		return false
	})
	n.pull(t, ref)
	if text := log.text(); !strings.Contains(text, "a registry sent a warning") || strings.Contains(text, "hunter2") {
		t.Errorf("logged is %s", text)
	}
}

// locked is a log for several goroutines.
type locked struct {
	mu  sync.Mutex
	log strings.Builder
}

func (l *locked) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(line)
}

func (l *locked) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.String()
}
