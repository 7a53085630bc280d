// Package config is the daemon's configuration: the file's and the flags' keys, their
// defaults, and what is refused. Each section has a file of its own, with its type, its
// defaults and its checks; an error names the key and the value.
//
// It must not know what the daemon does with a value: it opens nothing and makes
// nothing. It looks at the node only to find programs and to tell a file from a
// directory.
//
// Read config.go first, then load.go. To add a key: the field with its toml name in the
// section's type, its default, its check, and its line in the table of config_test.go,
// which fails for a key without one.
package config
