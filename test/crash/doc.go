// Package crash kills the daemon and the monitor, alone and together, while
// containers live that write numbers and end with known codes, and looks for every
// number and every code.
//
// The moments are random; the seed is printed, and STELE_CRASH_SEED repeats it.
package crash
