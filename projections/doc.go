// Package projections holds what the log says as read models in memory. List
// and Status are answered from here and touch neither the disk nor an executor.
//
// Every model can be dropped and rebuilt from the log, and gives the same
// answers; a checkpoint only spares the reading of what is long past. Nothing here
// decides or changes anything.
//
// feed.go brings the log's records into the models, fold.go says what one changes.
// live.go is what lives, index.go its lists, images.go the image references;
// history.go is what has ended; changes.go hands on each change, with what was before
// and after. checkpoint.go keeps what is known, values.go says in which form, and
// boot.go is for the node's start.
//
// Read feed.go and live.go first.
package projections
