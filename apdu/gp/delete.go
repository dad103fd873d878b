package gp

import (
	"fmt"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// Extent says how much DELETE takes away (P2).
type Extent uint8

// Extents.
const (
	WithRelated Extent = iota // a load file with its applications
	ObjectOnly                // refused with 6985 while something depends on it
)

// DeleteCommand is DELETE of an application or a load file. Open Platform 2.0.1
// knows no extent.
func DeleteCommand(d Dialect, aid apdu.AID, x Extent) apdu.Command {
	var p2 byte
	if d == GP211 && x == WithRelated {
		p2 = 0x80
	}
	return command(0xE4, 0x00, p2, tlv.Encode(0x4F, aid.Bytes()), d.ne())
}

// DeleteKeySetCommand is DELETE of all keys of a version. Cards refuse the set in
// use and the last set with 6985.
func DeleteKeySetCommand(d Dialect, v KeyVersion) (apdu.Command, error) {
	if v == 0 {
		return apdu.Command{}, fmt.Errorf("deleting key set: version %v", v)
	}
	return command(0xE4, 0x00, 0x00, tlv.Encode(0xD2, []byte{byte(v)}), d.ne()), nil
}

// DeleteKeyCommand is DELETE of one key of a version.
func DeleteKeyCommand(d Dialect, v KeyVersion, kid uint8) (apdu.Command, error) {
	if v == 0 || kid == 0 {
		return apdu.Command{}, fmt.Errorf("deleting key: version %v, identifier %d", v, kid)
	}
	data := tlv.Append(tlv.Encode(0xD0, []byte{kid}), 0xD2, []byte{byte(v)})
	return command(0xE4, 0x00, 0x00, data, d.ne()), nil
}
