//go:build !linux

package main

import "github.com/spf13/cobra"

func isChild() bool { return false }

// nodeCommands are those that only a node has. Elsewhere this program reads what nodes export.
func nodeCommands() []*cobra.Command { return nil }
