// Package registry fetches images from registries into the image store, loads them from
// archives, and inspects images that are not in the store.
//
// Its work is done by containers/image, with the same configuration files as CRI-O, podman
// and skopeo: registries.conf(.d) for mirrors, short names, blocked and insecure
// registries, policy.json and registries.d for signatures, auth.json for credentials,
// certs.d for TLS, keys for encrypted layers. The proxies of the environment (HTTP_PROXY
// and its like) are used. This package drives the library, and adds what it lacks:
//
//   - images that cannot be used here are refused before their layers are fetched
//     (check.go, platform.go), and archives that are hostile before they are unpacked
//     (archive.go);
//   - a namespace may have a policy and credentials of its own (namespace.go), and its
//     policy is asked again when its pods use what is here (permit.go, signatures.go);
//   - failures that may pass are retried (retry.go), with what was whole kept for the
//     retry (kept.go); pulls to which nothing comes any more are ended (meter.go);
//   - failures have kinds (errors.go), a refusal names the requirement
//     that failed (policy.go), and credentials appear in no error (credentials.go);
//   - artifacts, which are no images, become directories of files (artifact.go).
//
// It must not know how images are stored (the Store interface is all it needs), the
// CRI's messages, or the event log. Whether two pulls of one image are one is the
// caller's business; here they are harmless, as the store keeps each layer once.
//
// Read puller.go first, then job.go: each pull is a job, which reads the configuration
// files again, so that an administrator's change counts at once.
package registry
