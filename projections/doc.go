// Package projections keeps read models of the log in memory. List and Status are
// answered from here, without touching the disk or an executor.
//
// Every model can be dropped and rebuilt from the log, and then gives the same answers; a
// checkpoint only saves reading the distant past. Nothing here decides anything.
//
// feed.go applies the log's records to the models; fold.go works out what a record
// changes. live.go holds what exists, index.go its lists, images.go the image
// references, history.go what has ended, and shown.go
// what of a configuration is kept decoded. changes.go publishes each change with the
// states before and after. podevents.go publishes the turns in the lives of pods
// (turns.go), from one stage to another (stage.go). checkpoint.go saves the models, values.go has the encoding,
// boot.go serves the
// node's start, and recall.go actors that are made again. pack.go makes the models small when
// little happens.
//
// Read feed.go and live.go first.
package projections
