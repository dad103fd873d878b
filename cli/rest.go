package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"

	"inkan/cli/server"
	"inkan/tps/api"
)

// rest is the REST interface of a node.
type rest struct {
	client *http.Client
	url    string // scheme and host
}

// withNode runs do with the node that --server names; without it, with the node of
// the data folder, or with the folder opened in this process where no node runs.
func (p *program) withNode(c *cli.Context, do func(rest) error) error {
	if c.String("server") != "" {
		return p.withServer(c, do)
	}
	a, err := server.Local(c.Context, c.String("data"), p.options(c, slog.LevelWarn))
	if err != nil {
		return p.explained(c, err)
	}
	return errors.Join(do(rest{client: a.Client, url: a.URL}), a.Close())
}

// get reads a resource into out.
func (r rest) get(ctx context.Context, path string, query url.Values, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return r.call(ctx, request{method: http.MethodGet, path: path, out: out})
}

// post sends a body, nil for none, and reads the answer into out, nil for none.
func (r rest) post(ctx context.Context, path string, body, out any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return r.call(ctx, request{method: http.MethodPost, path: path, body: b, out: out})
}

// patch changes a resource and reads the answer into out.
func (r rest) patch(ctx context.Context, path string, body, out any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return r.call(ctx, request{method: http.MethodPatch, path: path, body: b, out: out})
}

// request is one call. The body is wiped.
type request struct {
	method, path string
	body         []byte
	match        string  // If-Match
	etag         *string // takes the answer's ETag
	out          any
}

// maxAnswer is the largest answer that is read, in bytes: a page of records is
// far below.
const maxAnswer = 16 << 20

func (r rest) call(ctx context.Context, q request) error {
	defer clear(q.body)
	req, err := http.NewRequestWithContext(ctx, q.method, r.url+api.Base+q.path, bytes.NewReader(q.body))
	if err != nil {
		return err
	}
	if len(q.body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if q.match != "" {
		req.Header.Set("If-Match", q.match)
	}
	res, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("asking the node: %w", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the node's answer: %w", err)
	}
	if res.StatusCode >= 300 {
		return refusal(res.StatusCode, b)
	}
	if q.etag != nil {
		*q.etag = res.Header.Get("ETag")
	}
	if q.out == nil {
		return nil
	}
	if err := json.Unmarshal(b, q.out); err != nil {
		return fmt.Errorf("reading the node's answer: %w", err)
	}
	return nil
}

// refusal is what the node says about a request that it did not do.
func refusal(status int, body []byte) error {
	var p api.Problem
	if json.Unmarshal(body, &p) != nil || p.Detail == "" {
		p.Detail = string(bytes.TrimSpace(body))
	}
	if p.Detail == "" {
		p.Detail = http.StatusText(status)
	}
	return &api.Error{Status: status, Message: p.Detail}
}

// isStatus reports whether the node answered with an HTTP status.
func isStatus(err error, status int) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Status == status
}

// listFlags are those of every list that comes in pages.
func listFlags(more ...cli.Flag) []cli.Flag {
	return append(more,
		&cli.IntFlag{Name: "size", Usage: "show at most `N`, up to 1000", Value: 100},
		&cli.StringFlag{Name: "after", Usage: "go on after the record with this `ID`"})
}

// listQuery makes the parameters of a list: those flags that were given, by the
// names of the interface.
func listQuery(c *cli.Context, names map[string]string) (url.Values, error) {
	n := c.Int("size")
	if n < 1 || n > api.MaxSize {
		return nil, usagef("--size %d: want 1 to %d", n, api.MaxSize)
	}
	q := url.Values{"size": {strconv.Itoa(n)}}
	for flag, name := range names {
		if v := c.String(flag); v != "" {
			q.Set(name, v)
		}
	}
	if v := c.String("after"); v != "" {
		q.Set("after", v)
	}
	return q, nil
}

// table prints rows in columns; the first row has the titles.
func table(w io.Writer, titles string, rows int, row func(i int) string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, titles)
	for i := range rows {
		fmt.Fprintln(t, printable(row(i)))
	}
	t.Flush()
}

// printMore says how to go on with a list.
func printMore(w io.Writer, shown int, total *int, next string) {
	switch {
	case next == "":
	case total != nil:
		fmt.Fprintf(w, "%d of %d shown; the next: --after %s\n", shown, *total, next)
	default:
		fmt.Fprintf(w, "%d shown; the next: --after %s\n", shown, next)
	}
}

// field prints one line of a record; nothing where there is no value.
func field(w io.Writer, name, value string) {
	if value != "" {
		fmt.Fprintf(w, "%-14s %s\n", name, printable(value))
	}
}

// printable keeps what others wrote from steering the terminal. Tabs separate
// columns.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// moment is a time for people.
func moment(m api.Millis) string {
	if m == 0 {
		return ""
	}
	return m.Time().Format(time.DateTime)
}

// day is a date for people.
func day(m api.Millis) string {
	if m == 0 {
		return ""
	}
	return m.Time().Format(time.DateOnly)
}

// dash stands where a column is empty.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
