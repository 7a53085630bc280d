package main

import (
	"github.com/spf13/cobra"

	"github.com/stele-runtime/stele/executors/storage"
)

// isChild does the work of a child process of the image store, which unpacks layers in one, and
// reports whether this is one.
func isChild() bool { return storage.Reexec() }

// nodeCommands are those that only a node has.
func nodeCommands() []*cobra.Command {
	return []*cobra.Command{serveCommand(), monitorCommand()}
}
