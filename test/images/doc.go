// Package images makes container images for tests and serves them from a registry
// in the test's own process, so that no test needs the internet or a prepared
// machine.
//
// Registry starts the registry; Busybox, FromProgram and Build make images with
// reproducible digests; Server.Push puts them under a name. It must not know Stele: the e2e
// tests point a daemon at Server.RegistriesConf, as an administrator would.
package images
