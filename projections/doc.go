// Package projections holds what the log says as read models in memory. List
// and Status are answered from here and touch neither the disk nor an executor.
//
// Every model can be dropped and rebuilt from the log, and gives the same
// answers; a snapshot only spares the reading of what is long past. Nothing here
// decides or changes anything.
//
// Read live.go first.
package projections
