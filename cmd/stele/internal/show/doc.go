// Package show renders what the tools print: events, tables of pods and containers, what happened
// to one, the node at a moment, images, pulls. Scripts read it, so that golden files hold every
// line.
//
// It must not know where its input comes from: it dials nothing and reads no file and no
// clock. Read events.go first.
package show
