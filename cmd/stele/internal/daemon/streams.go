package daemon

import (
	"log/slog"

	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/cri/streaming"
)

// ListenStreams opens the address of the streaming server.
func ListenStreams(c config.Streaming, logger *slog.Logger) (*streaming.Server, error) {
	streaming.RouteLibraryLogs(logger)
	var secure *streaming.TLS
	if c.EnableTLS {
		var err error
		files := streaming.TLSFiles{Cert: c.TLSCert, Key: c.TLSKey, CA: c.TLSCA}
		if secure, err = streaming.NewTLS(files, c.TLS(), logger); err != nil {
			return nil, err
		}
	}
	return streaming.Listen(streaming.Config{
		Address: c.ListenAddress(), TLS: secure,
		IdleTimeout: c.IdleTimeout, CreationTimeout: c.CreationTimeout, Logger: logger,
	})
}
