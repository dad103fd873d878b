package pcsc

import (
	"fmt"
	"slices"
	"strings"
)

// Find chooses a reader by name: the one so called, else the only one whose name
// begins with it (letter case ignored). The empty name means the only reader with
// a card in it, else the only reader. Its errors are ErrNoReader and ErrReaderName.
func Find(readers []Reader, name string) (Reader, error) {
	if len(readers) == 0 {
		return Reader{}, codeNoReaders
	}
	if i := slices.IndexFunc(readers, func(r Reader) bool { return r.Name == name }); i >= 0 {
		return readers[i], nil
	}
	fits := slices.DeleteFunc(slices.Clone(readers), func(r Reader) bool { return !hasPrefixFold(r.Name, name) })
	if name == "" {
		fits = withCard(readers)
	}
	switch {
	case len(fits) == 1:
		return fits[0], nil
	case len(fits) == 0:
		return Reader{}, fmt.Errorf("%w as %q; there are: %s", ErrReaderName, name, names(readers))
	case name == "":
		return Reader{}, fmt.Errorf("%w without a name; choose one of: %s", ErrReaderName, names(fits))
	}
	return Reader{}, fmt.Errorf("%w: %q fits several: %s", ErrReaderName, name, names(fits))
}

// withCard narrows readers to those with a card, or leaves them if none has one.
func withCard(readers []Reader) []Reader {
	out := slices.DeleteFunc(slices.Clone(readers), func(r Reader) bool { return !r.State.HasCard() })
	if len(out) == 0 {
		return readers
	}
	return out
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func names(readers []Reader) string {
	quoted := make([]string, len(readers))
	for i, r := range readers {
		quoted[i] = fmt.Sprintf("%q", r.Name)
	}
	return strings.Join(quoted, ", ")
}

// Named reports whether a reader is called name, or begins with it (letter case ignored).
func Named(reader, name string) bool { return hasPrefixFold(reader, name) }
