package storage

import "go.podman.io/storage/pkg/reexec"

// Reexec must be the first call in main, and in the TestMain of every test binary that
// opens a Store; if it returns true, the program must return at once.
//
// The library executes the running program again, under another argv[0], for work
// that changes the process itself: storage-untar, storage-applyLayer and
// storage-tar unpack and pack inside a chroot, storage-mountfrom mounts overlays
// whose options are longer than a page from within the store's directory, and
// storage-chown-by-maps rewrites owners. Reexec recognises these names, does the
// work and returns true. Without the call the library panics at the first layer.
//
// So each large layer of a pull costs a start of the program, with all that packages do
// before main: some 16 ms of CPU. GODEBUG=inittrace=1 shows what they do. Small layers are
// unpacked here: see unpack.go.
func Reexec() bool {
	return reexec.Init()
}
