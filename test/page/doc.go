// Package page holds the tests of timeline/page in a browser: what is drawn can be read, by
// eyes, by keys and by a screen reader; hostile names run nothing; nothing is asked of a
// network; and moving the view is fluid. It is a module of its own, so that the product's
// needs no browser driver; pages come from test/incidents/pages, run in the product's module.
//
// Read browser_test.go first. Without a Chromium its tests are skipped.
package page
