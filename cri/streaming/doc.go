// Package streaming serves the streams of exec, attach and port-forward over HTTP, to the
// kubelet and to crictl: SPDY and WebSocket, in all versions of the protocols that
// Kubernetes' clients speak.
//
// A call of the CRI gets a URL with a token (tokens.go), behind which is what to run: a
// function between standard streams (Command), or one that dials a port (Forward). The
// package must not know containers, pods or errors of the CRI.
//
// The transports are those of k8s.io/streaming, the names those of k8s.io/cri-streaming.
// The latter's handlers are not used, since they do not notice that a client has gone
// (a port-forward's context never ends; a client that writes what nobody reads, or reads
// nothing, is not noticed at all), leave goroutines behind that a client can multiply by
// opening streams (the kind of CVE-2022-23471), and know neither the end of input nor the
// tunnel that WebSocket clients have used since Kubernetes 1.30.
//
// Read server.go first, then command.go with its transports spdy.go and websocket.go, and
// forward.go. client.go is one connection, frames.go bounds what SPDY frames take.
package streaming
