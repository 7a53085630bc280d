// Package bundle writes and reads the file that `stele log export` makes: a part of a node's
// event log with what is needed to understand it elsewhere. It is a ZIP archive:
//
//	events.pb        records: messages stele.admin.v1.Record, each after its length as a varint
//	node/*           facts about the node and its configurations
//	logs/*           ends of container logs, if they were asked for
//	manifest.json    what is in it and what was left out; it is written last
//
// It must not know where records come from, nor what they mean. What it reads may come from
// anybody: everything is bounded. Read write.go first.
package bundle
