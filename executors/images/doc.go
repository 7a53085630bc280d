// Package images is one view of the two drivers that hold images: the store, and the
// registry driver with its OCI artifacts, which are listed, resolved, mounted and
// removed as images are. It also says what their failures mean to a caller (Fault).
//
// It keeps nothing of its own and knows neither pulls under way nor containers.
//
// Read images.go first.
package images
