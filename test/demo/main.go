// Command demo shows Stele at work, for `make run`: it starts a daemon with
// directories, network and registry of its own, runs a pod with a web server
// through the CRI socket, kills the daemon, and shows that the pod doesn't notice. Then
// it serves until Ctrl-C. It leaves nothing behind, even if it is interrupted.
//
// It must know only what a user of Stele knows: the CRI, the commands, the flags. Read
// story.go, which is what it shows; node.go is the daemon and its surroundings.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The first Ctrl-C ends the story; the cleanup cannot be interrupted.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// DEMO_EXIT=1 ends the demo where nobody can press Ctrl-C.
	wait := os.Getenv("DEMO_EXIT") == ""
	if err := run(ctx, wait); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, wait bool) error {
	n, err := newNode()
	if err != nil {
		return err
	}
	if err = n.prepare(); err == nil {
		err = tell(ctx, n, wait)
	}
	if ctx.Err() != nil {
		// The failure is its consequence.
		err = nil
	}
	return errors.Join(err, n.clear())
}
