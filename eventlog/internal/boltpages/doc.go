// Package boltpages checks the structure of a bbolt file without bbolt.
//
// bbolt trusts its file: a damaged page makes it panic, some of the panics
// happen in a goroutine of its own and cannot be recovered, and a branch page
// that points to its own parent makes it recurse until the process dies. So this
// package walks a file first and checks every offset, and bbolt opens only files
// in which each page is what its parent says it is.
//
// It knows bbolt's file format (version 2) and nothing of events. One thing is
// stricter than bbolt: buckets are not nested, because the event log nests none.
//
// Read meta.go for how the tree is found, then check.go for the walk.
package boltpages
