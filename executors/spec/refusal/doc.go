// Package refusal says why a field of a CRI message can't be satisfied, and has the checks
// that fields of all kinds share. It must not know any field. Read fielderror.go first.
package refusal
