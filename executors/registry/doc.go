// Package registry fetches images from registries into the image store.
//
// Its work is done by containers/image, with the same configuration files as CRI-O,
// podman and skopeo: registries.conf(.d) for mirrors, short names and insecure
// registries, policy.json for signatures, auth.json for credentials, certs.d for
// TLS. This package chooses what to ask of it, refuses images for other platforms
// before their layers are fetched, tells the kinds of failure apart (errors.go),
// and sees to it that credentials appear in no error.
//
// It must not know how images are stored (the Store interface is all it needs), the
// CRI's messages, or the event log. Whether two pulls of one image are one is the
// caller's business; here they are harmless, as the store keeps each layer once.
//
// Read puller.go first. The configuration files are read again at each pull, so that
// an administrator's change counts at once.
package registry
