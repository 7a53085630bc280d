// Package page writes a timeline as one HTML file that needs no network: what died and why in
// words, a time axis with a lane for each pod and container, and every event in a table.
//
// It is pure: a timeline in, a document out. It must not know where records come from, and
// decides nothing about them: sentences, steps and phases are the timeline's. The document
// may hold hostile names and messages, so texts reach it only through html/template and
// JSON, and its policy allows no script but its own and no request.
//
// Read page.go first (the document), then lanes.go (what the script draws) and verdict.go (what
// stands at the top). The script is in web, as modules; main.js is the first to read.
package page
