// Package docs tests that the tables in docs/ are true: that each field of the CRI's requests
// has its row, that what is called refused is refused in these words, and that the tests
// exist by which a row proves itself. Read fields_test.go first.
package docs
