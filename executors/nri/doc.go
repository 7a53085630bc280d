// Package nri lets plug-ins of the Node Resource Interface (NRI) take part in the lives of
// pods and containers: it wraps the runtime's side of github.com/containerd/nri, tells
// plug-ins what happens, and applies to a container's OCI spec what they ask for.
//
// A plug-in is a stranger that may hang, die or talk nonsense. The library drops one that
// does not answer within the request timeout; this package checks what the others say, and
// names them in its errors. A hook blocks its caller for at most that timeout for each
// plug-in, so that only effects may call one.
//
// With no plug-in connected, a hook reads two words of memory and looks at nothing.
//
// The package must not know how pods and containers are made or stored: their facts come
// in as values (facts.go), and everything that exists, and the way to update a container,
// through Source.
//
// Read driver.go first, then pods.go and containers.go, which are the hooks in the order
// of a life, and told.go, which says who is told of what. adjust.go checks adjustments,
// and generator.go makes them in an OCI spec.
package nri
