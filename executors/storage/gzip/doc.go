// Package pgzip stands in for github.com/klauspost/pgzip, which go.mod replaces by this directory:
// the image and storage libraries (de)compress with it, and have no way to be given another. It has
// the functions of it that they use.
//
// The other makes four buffers of 1 MiB for each stream, which is twice a layer, and a writer
// allocates 2 MiB more: 12 MiB of garbage a layer, however small that is. Its parallel
// decompression, one block ahead of its reader, gains nothing below some hundred KiB. Here what a
// stream needs is used again, and a stream is decompressed ahead only once it has proved to be long.
// Streams are compressed on one CPU: Stele only compresses the records of layers.
//
// It must not know what is in the streams. Its tests are in executors/storage, as `go test ./...`
// does not enter another module.
package pgzip
