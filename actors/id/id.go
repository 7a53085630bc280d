// Package id holds the identifiers that several machines share, as types, so that a
// container's id cannot be passed for a sandbox's.
package id

// Sandbox identifies a pod sandbox: 64 lower-case hexadecimal digits, chosen at
// random for each RunPodSandbox. Every resource of the sandbox (directories,
// namespaces, cgroup, CNI attachment) is named after it.
type Sandbox string

// Container identifies a container, in the form of a Sandbox id.
type Container string

// Exec identifies one command that runs beside a container's own process (ExecSync, Exec).
type Exec string

// Pull identifies one pull of an image reference and the credentials that it uses; it
// reveals nothing about them.
type Pull string

// Load identifies one load of an archive's images.
type Load string
