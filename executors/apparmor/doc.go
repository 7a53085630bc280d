// Package apparmor loads Stele's own AppArmor profile into the kernel, and looks which profiles
// are there. It must not know who is confined by them.
package apparmor
