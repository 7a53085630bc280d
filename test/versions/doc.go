// Package versions replays logs of earlier versions: every version of every event that a log may
// hold, in files that those versions wrote. They stay as they are; what they lead to may only
// change where a State does.
//
// Read versions_test.go. go test ./test/versions -update writes another log with the events that
// no log has yet, and what all logs lead to.
package versions
