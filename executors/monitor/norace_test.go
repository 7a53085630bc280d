//go:build !race

package monitor_test

// raceDetector says that the tests, and so the monitor, look for races.
const raceDetector = false
