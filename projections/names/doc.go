// Package names finds the streams of pods and containers by their names and ids, also long
// after they have ended, without a look at the whole log.
//
// Its index is a checkpoint of its own, which nobody holds in memory: a pair for each pod and
// container, in the order of their creation. It lags behind the log by a few thousand records,
// which a search reads besides. It is disposable: without it, or if it is damaged, a search
// reads the log. What retention removed from the log leaves the index later, so that a search
// can say that it was there.
//
// It must not know what names look like, nor what the streams say. Read index.go first, then
// named.go.
package names
