package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"

	"github.com/urfave/cli/v2"

	"inkan/tps/api"
	"inkan/tps/profile"
)

// Profiles and mappings are documents: TOML files that are kept as revisions.

// readDocument reads the document that a command is to set, from the file it names, -
// for standard input.
func (p *program) readDocument(c *cli.Context) (file string, document []byte, err error) {
	if file, err = oneArgument(c, "FILE"); err != nil {
		return "", nil, err
	}
	if n := c.Int("revision"); n < 0 {
		return "", nil, usagef("--revision %d: want 0 or more", n)
	}
	in := p.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", nil, fmt.Errorf("reading the document: %w", err)
		}
		defer f.Close()
		in = f
	}
	if document, err = io.ReadAll(io.LimitReader(in, profile.MaxDocument+1)); err != nil {
		return "", nil, fmt.Errorf("reading the document: %w", err)
	}
	return file, document, nil
}

// putDocument sends a document for the expected revision. exists says what is there
// already where none was expected.
func putDocument[T any](c *cli.Context, r rest, path string, document []byte, exists string) (out T, err error) {
	match, err := expectedRevision(c, r, path)
	if err != nil {
		return out, err
	}
	b, err := json.Marshal(api.ProfileDocument{Document: string(document)})
	if err != nil {
		return out, err
	}
	err = r.call(c.Context, request{method: http.MethodPut, path: path, body: b, match: match, out: &out})
	if isStatus(err, http.StatusPreconditionRequired) { // nobody expected one
		err = fmt.Errorf("%s already", exists)
	}
	return out, err
}

// expectedRevision is the If-Match of a change: the revision that was asked for,
// else the newest; "" where there is no profile yet.
func expectedRevision(c *cli.Context, r rest, path string) (string, error) {
	switch n := c.Int("revision"); {
	case n > 0:
		return strconv.Quote(strconv.Itoa(n)), nil
	case c.IsSet("revision"):
		return "", nil
	}
	var etag string
	err := r.call(c.Context, request{method: http.MethodGet, path: path, etag: &etag})
	if isStatus(err, http.StatusNotFound) {
		err = nil
	}
	return etag, err
}
