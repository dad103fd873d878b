package piv

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// MaxCertificate is the most a compressed certificate may unpack to, bytes.
const MaxCertificate = 32 << 10

// gzipped is the bit of the certificate information that says how 70 is kept.
const gzipped = 0x01

// EncodeCertificate is the content of a certificate object, not compressed: most hosts
// cannot read that.
func EncodeCertificate(der []byte) []byte {
	b := tlv.Encode(0x70, der)
	b = tlv.Append(b, 0x71, []byte{0})
	return tlv.Append(b, 0xFE)
}

// CompressCertificate is the content of a certificate object with the certificate
// compressed, for one that the card has no room for otherwise. OpenSC and macOS read it.
func CompressCertificate(der []byte) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(der) // into memory: neither fails
	w.Close()
	b := tlv.Encode(0x70, z.Bytes())
	b = tlv.Append(b, 0x71, []byte{gzipped})
	return tlv.Append(b, 0xFE)
}

// ParseCertificate takes the DER out of the content of a certificate object, and
// unpacks it where it is compressed. It does not look at the certificate.
func ParseCertificate(b []byte) ([]byte, error) {
	der, err := parseCertificate(b)
	if err != nil {
		return nil, fmt.Errorf("parsing certificate object: %w", err)
	}
	return der, nil
}

func parseCertificate(b []byte) ([]byte, error) {
	ts, err := tlv.Parse(b)
	if err != nil {
		return nil, err
	}
	cert, ok := tlv.First(ts, 0x70)
	if !ok || len(cert.Value) == 0 {
		return nil, errors.New("no certificate")
	}
	info, ok := tlv.First(ts, 0x71)
	if !ok || len(info.Value) != 1 || info.Value[0]&gzipped == 0 {
		return append([]byte(nil), cert.Value...), nil
	}
	return unpack(cert.Value)
}

func unpack(b []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	der, err := io.ReadAll(io.LimitReader(r, MaxCertificate+1))
	if err != nil {
		return nil, err
	}
	if len(der) > MaxCertificate {
		return nil, fmt.Errorf("unpacks to more than %d bytes", MaxCertificate)
	}
	return der, r.Close()
}

// ReadCertificate reads the certificate of a slot. Where there is none the error is
// [IsAbsent].
func ReadCertificate(ctx context.Context, d apdu.Doer, slot Slot) (*x509.Certificate, error) {
	o := slot.Certificate()
	if o == 0 {
		return nil, fmt.Errorf("slot %v has no certificate object", slot)
	}
	b, err := GetData(ctx, d, o)
	if err != nil {
		return nil, err
	}
	der, err := ParseCertificate(b)
	if err != nil {
		return nil, fmt.Errorf("certificate of slot %v: %w", slot, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate of slot %v: %w", slot, err)
	}
	return cert, nil
}

// WriteCertificate writes the certificate of a slot. It needs the management key.
func WriteCertificate(ctx context.Context, d apdu.Doer, slot Slot, der []byte) error {
	o := slot.Certificate()
	if o == 0 {
		return fmt.Errorf("slot %v has no certificate object", slot)
	}
	if slot == Attestation {
		return PutData(ctx, d, o, tlv.Encode(0x70, der))
	}
	return PutData(ctx, d, o, EncodeCertificate(der))
}
