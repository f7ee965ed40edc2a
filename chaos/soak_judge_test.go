package chaos

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// soakMeasures are the columns of a soak, with what each may grow by from the first
// quarter to the last: a factor and an amount. A factor of 0 is not judged: times
// depend on what else the machine does.
var soakMeasures = []struct {
	name   string
	factor float64
	amount float64
}{
	{"rss_kib", 1.3, 8 << 10},
	{"memfd_pss_kib", 1.5, 1 << 10},
	{"heap_kib", 1.5, 8 << 10},
	{"descriptors", 1, 4},
	{"threads", 1.25, 4},
	{"goroutines", 1, 4},
	{"trip_p50_us", 0, 0},
	{"trip_p99_us", 0, 0},
	{"trips", 0, 0},
	{"messages", 0, 0},
	{"attached", 0, 0},
	{"ended", 0, 0},
	{"hung", 0, 0},
}

// A soakSample is one look at one resident: its measures, in their order.
type soakSample struct {
	seconds float64
	side    string
	values  []float64
}

// median of a measure.
func median(samples []soakSample, measure int) float64 {
	var values []float64
	for _, s := range samples {
		values = append(values, s.values[measure])
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// flat compares the last quarter of the samples of a side with the first, after the
// warm-up: a tenth. It says what has grown.
func flat(samples []soakSample) (table []string, grown []string) {
	samples = samples[len(samples)/10:]
	quarter := len(samples) / 4
	if quarter == 0 {
		return nil, []string{fmt.Sprintf("only %d samples: nothing can be said", len(samples))}
	}
	first, last := samples[:quarter], samples[len(samples)-quarter:]
	for i, m := range soakMeasures {
		before, after := median(first, i), median(last, i)
		line := fmt.Sprintf("%s, %s: median of the first quarter %.0f, of the last %.0f", samples[0].side, m.name, before, after)
		table = append(table, line)
		if m.factor > 0 && after > before*m.factor+m.amount {
			grown = append(grown, line)
		}
	}
	return table, grown
}

// writeSoak writes all samples as a table.
func writeSoak(to io.Writer, samples []soakSample) error {
	header := []string{"seconds", "side"}
	for _, m := range soakMeasures {
		header = append(header, m.name)
	}
	w := csv.NewWriter(to)
	_ = w.Write(header)
	for _, s := range samples {
		row := []string{fmt.Sprintf("%.1f", s.seconds), s.side}
		for _, v := range s.values {
			row = append(row, fmt.Sprintf("%.6g", v))
		}
		_ = w.Write(row)
	}
	w.Flush()
	return w.Error()
}

// plotSoak draws a panel for each measure, with a line for each side.
func plotSoak(to io.Writer, samples []soakSample) error {
	const wide, high, across = 320.0, 120.0, 3
	colours := map[string]string{"server": "#1f77b4", "client": "#d62728"}
	end := samples[len(samples)-1].seconds
	rows := (len(soakMeasures) + across - 1) / across
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" font-family="sans-serif" font-size="11">`+"\n", across*(wide+20), float64(rows)*(high+50))
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	for i, m := range soakMeasures {
		x, y := float64(i%across)*(wide+20)+10, float64(i/across)*(high+50)+20
		most := 1.0
		for _, s := range samples {
			most = max(most, s.values[i])
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f">%s, 0 to %.0f, over %.0f s</text>`+"\n", x, y+10, m.name, most, end)
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.0f" height="%.0f" fill="none" stroke="#999"/>`+"\n", x, y+15, wide, high)
		for _, side := range []string{"server", "client"} {
			fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" points="`, colours[side])
			for _, s := range samples {
				if s.side == side {
					fmt.Fprintf(&b, "%.1f,%.1f ", x+wide*s.seconds/end, y+15+high-high*s.values[i]/most)
				}
			}
			fmt.Fprintf(&b, `"><title>%s</title></polyline>`+"\n", side)
		}
	}
	b.WriteString(`<text x="10" y="14"><tspan fill="#1f77b4">resident server</tspan>, <tspan fill="#d62728">resident client</tspan></text>` + "\n</svg>\n")
	_, err := io.WriteString(to, b.String())
	return err
}

func TestSoakIsJudgedByWhatGrows(t *testing.T) {
	series := func(measure int, grow float64) (samples []soakSample) {
		for i := range 60 {
			values := make([]float64, len(soakMeasures))
			for m := range values {
				values[m] = 20 + float64(i%5) // noise is no growth
			}
			values[measure] += grow * float64(i)
			samples = append(samples, soakSample{float64(i), "server", values})
		}
		return samples
	}
	if table, grown := flat(series(0, 0)); len(grown) > 0 || len(table) != len(soakMeasures) {
		t.Errorf("what stays flat has grown: %v", grown)
	}
	for i, m := range soakMeasures {
		_, grown := flat(series(i, m.amount))
		if want := m.factor > 0; (len(grown) == 1) != want {
			t.Errorf("%s grows by %v with each sample: grown are %v", m.name, m.amount, grown)
		}
	}
	if _, grown := flat(series(0, 0)[:3]); len(grown) != 1 {
		t.Error("three samples were judged")
	}
	var table, plot strings.Builder
	if err := writeSoak(&table, series(0, 0)); err != nil || strings.Count(table.String(), "\n") != 61 {
		t.Errorf("the table: %v, %q", err, table.String())
	}
	if err := plotSoak(&plot, series(0, 0)); err != nil || strings.Count(plot.String(), "<polyline") != 2*len(soakMeasures) {
		t.Errorf("the plot: %v", err)
	}
}
