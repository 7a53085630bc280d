// Command web is the demo's container: a web server that logs each request.
package main

import (
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

func main() {
	pod, err := os.Hostname()
	if err != nil {
		pod = "nameless"
	}
	begun := time.Now()
	var requests atomic.Int64
	server := &http.Server{
		Addr:              ":8080",
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := requests.Add(1)
			fmt.Printf("request %d: %s %s from %s\n", n, r.Method, r.URL.Path, r.RemoteAddr)
			fmt.Fprintf(w, "Hello from pod %s: request %d, up since %s\n", pod, n, begun.UTC().Format(time.TimeOnly))
		}),
	}
	fmt.Println("serving on", server.Addr)
	if err := server.ListenAndServe(); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}
