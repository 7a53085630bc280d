package bench

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// comparison is a table of what two need for the same. A row is what was measured, a column
// under which conditions; the ratios of the first to the second come first.
type comparison struct {
	title         string
	rows, columns []string
	cells         map[[2]string][2]float64
}

// add fills in a cell; later ones replace earlier ones. What was not measured is NaN.
func (c *comparison) add(row, column string, ours, theirs float64) {
	if c.cells == nil {
		c.cells = map[[2]string][2]float64{}
	}
	if !slices.Contains(c.rows, row) {
		c.rows = append(c.rows, row)
	}
	if !slices.Contains(c.columns, column) {
		c.columns = append(c.columns, column)
	}
	c.cells[[2]string{row, column}] = [2]float64{ours, theirs}
}

// ratio is how the first's figure is to the second's; 0 if there is none.
func (c *comparison) ratio(row, column string) float64 {
	cell := c.cells[[2]string{row, column}]
	if ratio := cell[0] / cell[1]; cell[1] != 0 && !math.IsNaN(ratio) {
		return ratio
	}
	return 0
}

// String is the table.
func (c *comparison) String() string {
	const label = 26
	width := 9
	for _, column := range c.columns {
		width = max(width, len(column)+2)
	}
	var out strings.Builder
	out.WriteString(c.title + "\n")
	fmt.Fprintf(&out, "%-*s", label, "")
	span := width*len(c.columns) - 1
	fmt.Fprintf(&out, " |%-*s |%-*s | %s", span, " ratio", span, " stele", "containerd")
	fmt.Fprintf(&out, "\n%-*s", label, "")
	for range 3 {
		out.WriteString(" |")
		for i, column := range c.columns {
			fmt.Fprintf(&out, "%*s", width-firstOf(i), column)
		}
	}
	out.WriteString("\n")
	for _, row := range c.rows {
		fmt.Fprintf(&out, "%-*s", label, row)
		for group := range 3 {
			out.WriteString(" |")
			for i, column := range c.columns {
				fmt.Fprintf(&out, "%*s", width-firstOf(i), c.cell(group, row, column))
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

// firstOf is what a group's bar takes of its first column.
func firstOf(column int) int {
	if column == 0 {
		return 1
	}
	return 0
}

// cell is a figure with three digits that matter: the ratio in group 0, and the two in 1 and 2.
func (c *comparison) cell(group int, row, column string) string {
	cell, known := c.cells[[2]string{row, column}]
	if !known {
		return "-"
	}
	if group == 0 {
		if cell[1] == 0 || math.IsNaN(cell[0]/cell[1]) {
			return "-"
		}
		return fmt.Sprintf("%.2f", c.ratio(row, column))
	}
	switch v := cell[group-1]; {
	case math.IsNaN(v):
		return "-"
	case v == 0:
		return "0"
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}
