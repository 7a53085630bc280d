// Package lean gives back the memory of this process that only the past needed: garbage, and
// pages of the program and of files that can be mapped again from the page cache. It does not know
// when that is worth it.
package lean
