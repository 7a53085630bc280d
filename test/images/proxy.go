package images

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy stands before a registry and spoils its answers. To its users it is the
// registry: Host and RegistriesConf are its own.
type Proxy struct {
	Server

	mu       sync.Mutex
	spoil    func(*http.Request) Fault
	requests map[string]int
	broken   chan struct{} // closed to end what hangs
}

// Fault is what happens to the answer to one request. The zero Fault changes nothing.
type Fault struct {
	// Status, if not 0, is the answer, with Header and Body; the registry is not asked.
	Status int
	Header http.Header
	Body   string
	// Cut ends the connection after After bytes of the body; Hang stops sending there,
	// until the client is gone or BreakOff is called, and cuts then.
	Cut, Hang bool
	After     int64
	// Drip is the pause after each KiB of the body.
	Drip time.Duration
	// Replace, if not nil, is sent as body instead of the registry's, with its status.
	Replace []byte
}

// Front puts a Proxy before the registry. It ends with the test.
func Front(t testing.TB, s *Server) *Proxy {
	t.Helper()
	p := &Proxy{requests: map[string]int{}, broken: make(chan struct{})}
	reverse := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.Host})
	reverse.ErrorLog = log.New(io.Discard, "", 0)
	reverse.FlushInterval = -1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fault := p.note(r)
		if fault.Status != 0 {
			for key, values := range fault.Header {
				w.Header()[key] = values
			}
			w.WriteHeader(fault.Status)
			fmt.Fprint(w, fault.Body)
			return
		}
		reverse.ServeHTTP(&spoiler{ResponseWriter: w, fault: fault, request: r, broken: p.hanging()}, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	t.Cleanup(p.BreakOff)
	p.Host = strings.TrimPrefix(server.URL, "http://")
	p.configure(t)
	return p
}

// Spoil has f decide from now on what happens to each request; nil ends it. f is called by
// one goroutine at a time.
func (p *Proxy) Spoil(f func(*http.Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spoil = f
}

// BreakOff cuts the answers that hang.
func (p *Proxy) BreakOff() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.broken)
	p.broken = make(chan struct{})
}

func (p *Proxy) hanging() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

// Gets returns the number of GET requests for paths that contain the part.
func (p *Proxy) Gets(part string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	total := 0
	for path, count := range p.requests {
		if strings.Contains(path, part) {
			total += count
		}
	}
	return total
}

func (p *Proxy) note(r *http.Request) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Method == http.MethodGet {
		p.requests[r.URL.Path]++
	}
	if p.spoil == nil {
		return Fault{}
	}
	return p.spoil(r)
}

// spoiler is a response whose body suffers the fault.
type spoiler struct {
	http.ResponseWriter
	fault   Fault
	request *http.Request
	broken  <-chan struct{}
	sent    int64
}

func (s *spoiler) WriteHeader(status int) {
	if s.fault.Replace != nil {
		s.Header().Set("Content-Length", fmt.Sprint(len(s.fault.Replace)))
		s.ResponseWriter.WriteHeader(status)
		_, _ = s.ResponseWriter.Write(s.fault.Replace)
		return
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *spoiler) Write(body []byte) (int, error) {
	if s.fault.Replace != nil {
		return len(body), nil
	}
	for done := 0; done < len(body); {
		piece := body[done:min(done+1024, len(body))]
		if s.fault.Cut || s.fault.Hang {
			left := s.fault.After - s.sent
			if left <= 0 {
				s.breakOff()
			}
			piece = piece[:min(int64(len(piece)), left)]
		}
		n, err := s.ResponseWriter.Write(piece)
		done += n
		s.sent += int64(n)
		if err != nil {
			return done, err
		}
		if s.fault.Drip > 0 {
			s.Flush()
			time.Sleep(s.fault.Drip)
		}
	}
	if (s.fault.Cut || s.fault.Hang) && s.sent >= s.fault.After {
		s.breakOff()
	}
	return len(body), nil
}

// breakOff ends the answer in the middle.
func (s *spoiler) breakOff() {
	s.Flush()
	if s.fault.Hang {
		select {
		case <-s.request.Context().Done():
		case <-s.broken:
		}
	}
	panic(http.ErrAbortHandler)
}

// Flush is found by the reverse proxy.
func (s *spoiler) Flush() {
	if flusher, ok := s.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
}
