package wire

import "fmt"

// escape says which bytes of a value stand for themselves (§3). A space is
// written as + except by escapeAll.
type escape uint8

const (
	escapeAll  escape = iota // every byte as %XX: pdu_data
	escapeText               // letters and digits literal, as ESC writes
	escapeForm               // also . * _ -: form URL encoding, as Java writes
)

const upperDigits = "0123456789ABCDEF"

func appendEscaped(dst, src []byte, e escape) []byte {
	for _, c := range src {
		switch {
		case e != escapeAll && literal(c, e):
			dst = append(dst, c)
		case e != escapeAll && c == ' ':
			dst = append(dst, '+')
		default:
			dst = append(dst, '%', upperDigits[c>>4], upperDigits[c&15])
		}
	}
	return dst
}

func literal(c byte, e escape) bool {
	switch {
	case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		return true
	case c == '.', c == '*', c == '_', c == '-':
		return e == escapeForm
	}
	return false
}

// unescape undoes all forms of escape: %XX in either case, + for a space, every
// other byte literal. A % that two hexadecimal digits do not follow is an error
// when strict; otherwise it stands for itself, since tpsclient sends credentials
// unescaped. The result never aliases src.
func unescape(src []byte, strict bool) ([]byte, error) {
	dst := make([]byte, 0, len(src))
	for i := 0; i < len(src); i++ {
		switch c := src[i]; c {
		case '+':
			dst = append(dst, ' ')
		case '%':
			hi, lo := -1, -1
			if i+2 < len(src) {
				hi, lo = hexDigit(src[i+1]), hexDigit(src[i+2])
			}
			switch {
			case hi >= 0 && lo >= 0:
				dst = append(dst, byte(hi<<4|lo))
				i += 2
			case strict:
				clear(dst)
				return nil, fmt.Errorf("%w: malformed %%XX escape", ErrProtocol)
			default:
				dst = append(dst, c)
			}
		default:
			dst = append(dst, c)
		}
	}
	return dst, nil
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
