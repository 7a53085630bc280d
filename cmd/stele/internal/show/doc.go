// Package show renders what the tools print: events, entities, images, pulls. Each
// function writes to an io.Writer what it is given; the text is a contract with whoever
// reads it in a script, so that golden files hold all of it.
//
// It must not know where things come from: it dials nothing, reads no file and no clock.
// Read events.go first.
package show
