// Package streams names what passes between a client and a process in a container: its
// standard streams and the size of its terminal.
//
// It is where the streaming server, the CRI's calls and the drivers meet, and so it knows
// none of them. All of it is in stdio.go.
package streams
