package streaming

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"sync"
	"time"
)

// Config is what a Server needs.
type Config struct {
	// Address is IP:PORT; with port 0 the kernel chooses one.
	Address string
	// TLS is nil for plain HTTP.
	TLS *TLS
	// IdleTimeout ends a connection on which nothing moves; 0: never.
	IdleTimeout time.Duration
	// CreationTimeout is how long a client may take to open its streams.
	CreationTimeout time.Duration
	Logger          *slog.Logger
}

// Server serves streams.
type Server struct {
	config   Config
	listener net.Listener
	http     *http.Server
	tokens   *tokens
	// running ends when the server does, and all sessions with it.
	running context.Context
	stop    context.CancelFunc
	// lingering are connections whose sessions have ended.
	lingering sync.WaitGroup

	mu sync.Mutex
	// clients are those with a session. Nil: the server has ended.
	clients map[*client]struct{}
	// sessions are those that have not ended.
	sessions sync.WaitGroup
}

// session is what a URL leads to.
type session interface {
	// serve serves a request until the session's end. ctx ends with the server, and with
	// the client's connection.
	serve(ctx context.Context, q *request)
}

// request is a client's request for a session.
type request struct {
	server *Server
	client *client
	w      http.ResponseWriter
	*http.Request
}

// Listen returns a server, whose address is taken from now on.
func Listen(c Config) (*Server, error) {
	s := &Server{config: c, tokens: newTokens(), clients: map[*client]struct{}{}}
	inner, err := net.Listen("tcp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for streams: %w", err)
	}
	s.running, s.stop = context.WithCancel(context.Background())
	s.listener = listener{inner, &s.lingering}
	if c.TLS != nil {
		s.listener = tls.NewListener(s.listener, c.TLS.config())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{kind}/{token}", s.serve)
	mux.HandleFunc("POST /{kind}/{token}", s.serve)
	s.http = &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		// What it says concerns single connections, and its words come from clients.
		ErrorLog:    slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
		ConnContext: connContext,
	}
	return s, nil
}

// Address is where the server listens.
func (s *Server) Address() net.Addr { return s.listener.Addr() }

// Serve serves until ctx is done or End was called.
func (s *Server) Serve(ctx context.Context) {
	defer context.AfterFunc(ctx, s.close)()
	s.config.Logger.Info("serving streams", "address", s.Address().String(), "tls", s.config.TLS != nil)
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		s.config.Logger.Error("streams are no longer served", "address", s.Address().String(), "error", err)
	}
}

// close ends all sessions, and does not wait for them.
func (s *Server) close() {
	s.stop()
	_ = s.http.Close() // the listener may be closed already
	_ = s.listener.Close()
}

// End ends the server and all sessions, whose clients learn it. It returns when they have
// ended; those that have not when ctx is done lose their connections.
func (s *Server) End(ctx context.Context) {
	s.mu.Lock()
	clients := s.clients
	s.clients = nil
	s.mu.Unlock()
	s.close()
	defer context.AfterFunc(ctx, func() {
		for c := range clients {
			_ = c.abort()
		}
	})()
	s.sessions.Wait()
}

// offer returns a URL that leads to a session.
func (s *Server) offer(kind string, x session) (string, error) {
	if s.running.Err() != nil {
		return "", ErrEnded
	}
	token, ok := s.tokens.put(kind, x)
	if !ok {
		return "", ErrTooMany
	}
	u := url.URL{Scheme: "http", Host: s.Address().String(), Path: "/" + kind + "/" + token}
	if s.config.TLS != nil {
		u.Scheme = "https"
	}
	return u.String(), nil
}

var (
	// ErrTooMany: too many URLs wait to be used.
	ErrTooMany = fmt.Errorf("%d streams were requested within the last minute, and no client has come for them", maxTokens)
	// ErrEnded: the server has ended.
	ErrEnded = errors.New("the daemon is ending")
)

// clientKey is the context's key for a request's client.
type clientKey struct{}

func connContext(ctx context.Context, conn net.Conn) context.Context {
	if secure, is := conn.(*tls.Conn); is {
		conn = secure.NetConn()
	}
	return context.WithValue(ctx, clientKey{}, conn)
}

// serve serves a session.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	found := s.tokens.take(r.PathValue("kind"), r.PathValue("token"))
	if found == nil {
		http.NotFound(w, r)
		return
	}
	c := r.Context().Value(clientKey{}).(*client)
	if !s.enter(c) {
		http.Error(w, ErrEnded.Error(), http.StatusServiceUnavailable)
		return
	}
	defer s.leave(c)
	ctx, cancel := context.WithCancelCause(s.running)
	defer cancel(nil)
	defer context.AfterFunc(c.gone, func() { cancel(context.Cause(c.gone)) })()
	// Writes to a client that does not read would never end.
	defer context.AfterFunc(c.gone, func() { _ = c.abort() })()
	defer s.recover()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.watch(ctx, s.config.IdleTimeout)
	}()
	found.serve(ctx, &request{server: s, client: c, w: w, Request: r})
	cancel(nil)
	<-watched
}

// enter notes a client's session; false if the server has ended.
func (s *Server) enter(c *client) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients == nil {
		return false
	}
	s.clients[c] = struct{}{}
	s.sessions.Add(1)
	return true
}

func (s *Server) leave(c *client) {
	s.mu.Lock()
	delete(s.clients, c)
	s.mu.Unlock()
	s.sessions.Done()
}

// recover keeps a panic from ending more than its session.
func (s *Server) recover() {
	if r := recover(); r != nil {
		s.config.Logger.Error("a stream's session panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	}
}
