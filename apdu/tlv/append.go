package tlv

// Append appends one data object to dst, the length in its shortest form. The
// value is the concatenation of the parts.
func Append(dst []byte, tag Tag, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	dst = AppendLength(appendTag(dst, tag), n)
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return dst
}

// Encode is Append to a new slice.
func Encode(tag Tag, parts ...[]byte) []byte { return Append(nil, tag, parts...) }

// Append appends the data object to dst.
func (t TLV) Append(dst []byte) []byte { return Append(dst, t.Tag, t.Value) }

// AppendLength appends a BER length field in its shortest form.
func AppendLength(dst []byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(dst, byte(n))
	case n <= 0xFF:
		return append(dst, 0x81, byte(n))
	case n <= 0xFFFF:
		return append(dst, 0x82, byte(n>>8), byte(n))
	case n <= 0xFFFFFF:
		return append(dst, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(dst, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func appendTag(dst []byte, t Tag) []byte {
	if t > 0xFFFF {
		dst = append(dst, byte(t>>16))
	}
	if t > 0xFF {
		dst = append(dst, byte(t>>8))
	}
	return append(dst, byte(t))
}
