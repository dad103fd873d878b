package ca

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	oidUserID         = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidUPN            = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
)

// Upper bounds in characters (RFC 5280 appendix A.1; RFC 4524 §2 for UID; RFC 5321 §4.5.3.1 for mail).
const (
	maxCommonName = 64
	maxUserID     = 256
	maxMail       = 254
	maxUPN        = 1024
)

// subjectName is base with the person's CN and UID behind it. A person without
// name gets the user id as CN.
func subjectName(base pkix.Name, s Subject) (pkix.Name, error) {
	cn := s.Name
	if cn == "" {
		cn = s.UserID
	}
	if err := checkText("common name", cn, maxCommonName); err != nil {
		return pkix.Name{}, err
	}
	if err := checkText("user id", s.UserID, maxUserID); err != nil {
		return pkix.Name{}, err
	}
	base.CommonName = cn
	base.ExtraNames = append(slices.Clone(base.ExtraNames), pkix.AttributeTypeAndValue{Type: oidUserID, Value: s.UserID})
	return base, nil
}

// checkText refuses what has no place in a name. Its errors are ErrRefused.
func checkText(what, s string, most int) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: person has no %s", ErrRefused, what)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: %s is not UTF-8", ErrRefused, what)
	case utf8.RuneCountInString(s) > most:
		return fmt.Errorf("%w: %s of %d characters, at most %d", ErrRefused, what, utf8.RuneCountInString(s), most)
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%w: %s holds a control character", ErrRefused, what)
	}
	return nil
}

// checkAddress refuses what is not local@domain.
func checkAddress(what, s string, most int) error {
	if err := checkText(what, s, most); err != nil {
		return err
	}
	at := strings.LastIndexByte(s, '@')
	if at < 1 || at == len(s)-1 || strings.ContainsFunc(s, unicode.IsSpace) {
		return fmt.Errorf("%w: %s is not of the form name@domain", ErrRefused, what)
	}
	return nil
}

// altName is the subject alternative name of a person: rfc822Name and user
// principal name as the profile's rules say. It is nil if there is nothing to
// say; it is not critical, because the subject is never empty (RFC 5280 §4.2.1.6).
func altName(p CertProfile, s Subject) (*pkix.Extension, error) {
	var names []asn1.RawValue
	mail, err := applyRule(p.Mail, "mail address", s.Mail, maxMail)
	if err != nil {
		return nil, err
	}
	if mail != "" {
		if strings.ContainsFunc(mail, func(r rune) bool { return r > unicode.MaxASCII }) {
			return nil, fmt.Errorf("%w: mail address has characters outside ASCII", ErrRefused)
		}
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte(mail)})
	}
	upn, err := applyRule(p.UPN, "user principal name", s.UPN, maxUPN)
	if err != nil {
		return nil, err
	}
	if upn != "" {
		n, err := otherName(oidUPN, upn)
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	if len(names) == 0 {
		return nil, nil
	}
	value, err := asn1.Marshal(names)
	if err != nil {
		return nil, fmt.Errorf("encoding the subject alternative name: %w", err)
	}
	return &pkix.Extension{Id: oidSubjectAltName, Value: value}, nil
}

func applyRule(r SANRule, what, value string, most int) (string, error) {
	if r == Omit || r == IfKnown && value == "" {
		return "", nil
	}
	return value, checkAddress(what, value, most)
}

// otherName is GeneralName [0] with a UTF8String value (RFC 5280 §4.2.1.6).
func otherName(id asn1.ObjectIdentifier, value string) (asn1.RawValue, error) {
	b, err := asn1.MarshalWithParams(struct {
		ID    asn1.ObjectIdentifier
		Value string `asn1:"utf8,explicit,tag:0"`
	}{id, value}, "tag:0")
	if err != nil {
		return asn1.RawValue{}, fmt.Errorf("encoding another name: %w", err)
	}
	return asn1.RawValue{FullBytes: b}, nil
}

// attributeNames are the short names of RFC 4514 §3.
var attributeNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.6": "C",
	"2.5.4.9": "STREET", "0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
}

// FormatDN renders a distinguished name (DER) as RFC 4514 §2 does, last RDN first.
func FormatDN(der []byte) (string, error) {
	var rdns []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &rdns); err != nil || len(rest) > 0 {
		return "", fmt.Errorf("decoding a distinguished name of %d bytes", len(der))
	}
	parts := make([]string, 0, len(rdns))
	for _, raw := range slices.Backward(rdns) {
		var rdn []attribute
		if _, err := asn1.UnmarshalWithParams(raw.FullBytes, &rdn, "set"); err != nil {
			return "", fmt.Errorf("decoding a relative distinguished name: %w", err)
		}
		attributes := make([]string, 0, len(rdn))
		for _, a := range rdn {
			attributes = append(attributes, a.String())
		}
		parts = append(parts, strings.Join(attributes, "+"))
	}
	return strings.Join(parts, ","), nil
}

type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// String is the attribute with its short name and escaped value, or dotted with
// the value's DER in hexadecimal where there is no short name or no text.
func (a attribute) String() string {
	var s string
	name, known := attributeNames[a.Type.String()]
	if _, err := asn1.Unmarshal(a.Value.FullBytes, &s); err != nil || !known || !utf8.ValidString(s) {
		return a.Type.String() + "=#" + hex.EncodeToString(a.Value.FullBytes)
	}
	return name + "=" + escapeValue(s)
}

// escapeValue escapes an attribute value (RFC 4514 §2.4).
func escapeValue(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case strings.ContainsRune(`"+,;<>\`, r), r == '#' && i == 0, r == ' ' && (i == 0 || i == len(s)-1):
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsControl(r):
			for _, c := range []byte(string(r)) {
				fmt.Fprintf(&b, `\%02x`, c)
			}
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
