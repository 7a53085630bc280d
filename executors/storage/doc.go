// Package storage keeps images, container root filesystems and image volumes on disk.
//
// It is a thin, crash-tolerant layer over containers/storage: the store's format,
// its locks and its overlay driver are that library's, so podman, buildah and
// skopeo see the same images. What this package adds is what a runtime needs on
// top: answers that cost nothing while the store does not change, the CRI's rules
// for naming and removing images, and root filesystems whose making and unmaking
// may be interrupted anywhere and asked for again.
//
// It must not know registries (package registry fetches images and writes them
// through a reference that Images.Reference gives), sandboxes, the CRI's messages,
// or the event log. It does what it is asked to do and reports what happened.
//
// Read store.go first, which puts a Store together from its parts:
//
//   - Images (images.go, resolve.go, remove.go; catalog.go reads their records) has names
//     and configurations, and takes in what a pull brings (gate.go, orphans.go).
//   - Rootfses (rootfs.go) and Volumes (volume.go, volume_dir.go) are made of layers
//     (layers.go): a record (records.go), a directory of the graph driver (driver.go) and a
//     mount. Every method starts by asking which of the three exist. The library knows only
//     that their images are needed (holds.go), but still has the layers of earlier versions
//     (library_layers.go). What is removed is renamed, and unlinked later (removed.go).
//   - Usage (usage.go) measures.
//   - recover.go clears up what a crash left, when a Store is opened.
//
// All of them work on one disk (disk.go): the library's store and where things are in it.
// Where that is, and with which settings, is decided by options.go and storageconf.go.
//
// Three rules hold throughout:
//
//   - All state is under the graph root, the run root and, if there is one, the
//     separate image store, so that several daemons can run side by side. Only
//     layout.go knows what is where in them.
//   - Nothing here ever wipes the store. What a crash left half made is removed
//     piece by piece, each piece only when nothing refers to it; where the store's
//     index itself looks damaged, nothing is removed at all.
//   - The library runs parts of its work (unpacking large layers, mounting with long
//     options) in a copy of the running program: see Reexec. Small layers are unpacked
//     by the daemon (unpack.go).
package storage
