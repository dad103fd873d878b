package gp

import (
	"bytes"
	"context"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// Tags of data objects that a card manager returns (GlobalPlatform 2.3.1 §11.3,
// appendix H).
const (
	TagIIN          tlv.Tag = 0x42 // issuer identification number
	TagCIN          tlv.Tag = 0x45 // card image number
	TagRecognition  tlv.Tag = 0x66 // card recognition data
	TagCapabilities tlv.Tag = 0x67 // card capability information
	TagCounter      tlv.Tag = 0xC1 // sequence counter of the default key version
	TagKDD          tlv.Tag = 0xCF // key diversification data
	TagKeyInfo      tlv.Tag = 0xE0 // key information template
	TagCPLC         tlv.Tag = 0x9F7F
	TagResources    tlv.Tag = 0xFF21 // extended card resources
)

// GetDataCommand is GET DATA for a tag of one or two bytes.
func GetDataCommand(tag tlv.Tag) apdu.Command {
	return command(0xCA, byte(tag>>8), byte(tag), nil, apdu.MaxShortNe)
}

// GetData reads a data object as the card sends it, header included. It asks for
// whatever there is, repeats with the length the card names (6Cxx) and with
// class 00 where the card knows no class 80. An object that the card does not
// have gives an error that is apdu.SWReferencedNotFound or another status.
func GetData(ctx context.Context, d apdu.Doer, tag tlv.Tag) ([]byte, error) {
	cmd := GetDataCommand(tag)
	r, err := getData(ctx, d, cmd)
	if err == nil && (r.SW == apdu.SWClaNotSupported || r.SW == apdu.SWInsNotSupported) {
		cmd.CLA = 0x00
		r, err = getData(ctx, d, cmd)
	}
	if err == nil {
		err = r.Check(cmd)
	}
	if err != nil {
		return nil, fmt.Errorf("reading data object %v: %w", tag, err)
	}
	return r.Data, nil
}

func getData(ctx context.Context, d apdu.Doer, cmd apdu.Command) (apdu.Response, error) {
	r, err := d.Do(ctx, cmd)
	if err != nil || r.SW.SW1() != 0x6C {
		return r, err
	}
	// The Doer left the repetition to us: inside a secure channel only a command
	// wrapped anew may be sent again.
	cmd.Ne = int(r.SW.SW2())
	if cmd.Ne == 0 {
		cmd.Ne = apdu.MaxShortNe
	}
	return d.Do(ctx, cmd)
}

// Value strips the header of a data object that GET DATA returned. Cards that
// leave the header out are understood: then b itself is the value.
func Value(b []byte, tag tlv.Tag) []byte {
	if t, rest, err := tlv.Next(b); err == nil && t.Tag == tag && len(bytes.TrimLeft(rest, "\x00")) == 0 {
		return t.Value
	}
	return b
}

// ReadKDD reads the key diversification data (tag CF), the same ten bytes as in
// the answer to INITIALIZE UPDATE. Many cards do not have the object.
func ReadKDD(ctx context.Context, d apdu.Doer) (KDD, error) {
	b, err := GetData(ctx, d, TagKDD)
	if err != nil {
		return KDD{}, err
	}
	var k KDD
	v := Value(b, TagKDD)
	if len(v) != len(k) {
		return KDD{}, fmt.Errorf("KDD of %d bytes, want 10", len(v))
	}
	copy(k[:], v)
	return k, nil
}

// ReadCounter reads the sequence counter of the default key version (tag C1): 2
// bytes under SCP02, 3 under SCP03. A card with SCP01 alone does not have it.
func ReadCounter(ctx context.Context, d apdu.Doer) ([]byte, error) {
	b, err := GetData(ctx, d, TagCounter)
	if err != nil {
		return nil, err
	}
	v := Value(b, TagCounter)
	if len(v) != 2 && len(v) != 3 {
		return nil, fmt.Errorf("sequence counter of %d bytes, want 2 or 3", len(v))
	}
	return v, nil
}
