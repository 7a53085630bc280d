// Package architecture holds the rules about what may depend on what, as tests
// whose failures say why the rule is there. It has no code of its own.
//
// Read rules_test.go: it is the table of ARCHITECTURE.md in a form that a
// machine can check. Who needs an exception changes the table, and says why.
package architecture
