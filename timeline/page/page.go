package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/stele-runtime/stele/timeline"
)

// Subject is what a page is about.
type Subject struct {
	Timeline *timeline.Timeline
	// Found is a pod or a container; without a pod, the page is about the whole timeline.
	Found timeline.Found
	// Now is the moment that durations count to.
	Now time.Time
}

//go:embed web
var web embed.FS

// modules are the script's, each after those that it imports.
var modules = []string{"format.js", "model.js", "shapes.js", "view.js", "draw.js", "detail.js", "table.js", "input.js", "main.js"}

// Write writes the document. Errors are the writer's.
func (s Subject) Write(to io.Writer) error {
	style, err := web.ReadFile("web/page.css")
	if err != nil {
		return err
	}
	script, err := bundle()
	if err != nil {
		return err
	}
	shape, err := template.ParseFS(web, "web/page.html")
	if err != nil {
		return err
	}
	doc := s.document()
	// Marshal escapes <, > and &, so that nothing in it can end its element.
	data, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	err = shape.Execute(&out, map[string]any{
		"Policy": fmt.Sprintf("default-src 'none'; script-src %s; style-src %s; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
			hash(script), hash(string(style))),
		"Title": s.title(), "Style": template.CSS(style), "Script": template.JS(script), "Data": template.JS(data),
		"Verdict": s.verdict(doc), "Steps": s.steps(), "Whole": s.Found.Pod == nil, "Events": len(doc.Marks), "Skipped": s.Timeline.Skipped,
		"Written": s.Now.UTC().Format("2 January 2006 15:04:05") + " UTC",
	})
	if err != nil {
		return err
	}
	_, err = to.Write(out.Bytes())
	return err
}

func hash(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

var (
	imports = regexp.MustCompile(`(?m)^import \{[^}]*\} from '\./([a-z]+\.js)';\n`)
	exports = regexp.MustCompile(`(?m)^export (const|let|function|class) `)
)

// bundle makes one module of all: a document that is opened as a file cannot import another.
func bundle() (string, error) {
	var all strings.Builder
	for _, name := range modules {
		source, err := web.ReadFile("web/" + name)
		if err != nil {
			return "", err
		}
		source = imports.ReplaceAll(source, nil)
		all.Write(exports.ReplaceAll(source, []byte("$1 ")))
	}
	return all.String(), nil
}

func (s Subject) title() string {
	switch {
	case s.Found.Container != nil:
		return podName(s.Found.Pod) + "/" + containerName(s.Found.Container)
	case s.Found.Pod != nil:
		return podName(s.Found.Pod)
	}
	return "The whole node"
}
