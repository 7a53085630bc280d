// Package crash kills the daemon and the monitor, alone and together, while containers
// write numbers and end with known codes; then it looks for every number and every code.
//
// The moments are random; the seed is printed, and STELE_CRASH_SEED repeats it.
package crash
