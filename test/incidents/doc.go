// Package incidents writes the logs of incidents as the daemon would: a crash loop, a network
// that fails, a reboot, a slow pull, hostile names, and a busy node. The records are the same
// in each run, so that pages and figures made from them can be compared.
//
// It must not know who shows them. Read incidents.go first; pages writes them as HTML.
package incidents
