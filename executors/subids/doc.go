// Package subids reads which of the node's ids are set aside for a user's namespaces:
// /etc/subuid and /etc/subgid, as subuid(5) has them. It must not know what they are used for.
package subids
