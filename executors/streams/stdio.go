package streams

import "io"

// Stdio are a client's ends of the standard streams of a process.
type Stdio struct {
	// Stdin is the process's input; nil for none. Close makes a Read under way return. It is
	// called once nobody needs the input any more.
	Stdin io.ReadCloser
	// Stdout and Stderr take what the process writes; what goes to nil is dropped. With a
	// terminal all output is on Stdout. An error says that the client does not take more.
	Stdout, Stderr io.Writer
	Terminal       Terminal
	// Sizes are the sizes of the client's terminal, as they change; nil for none. The sender
	// does not wait for a receiver that has gone.
	Sizes <-chan Size
}

// Terminal says whether a command gets a terminal.
type Terminal int

const (
	// AsContainer: if the container's own process has one.
	AsContainer Terminal = iota
	// Never: pipes.
	Never
	// Always: a terminal of its own.
	Always
)

// Size is the size of a terminal, in characters.
type Size struct{ Width, Height uint16 }
