package sim

import (
	"encoding/binary"
	"fmt"

	"inkan/apdu"
	"inkan/sim/gp"
)

// quirkEntry is the table [quirk] of a model: see gp.Quirks.
type quirkEntry struct {
	MACError    hexBytes   `toml:"mac_error"`
	T0          bool       `toml:"t0"`
	DataCounter bool       `toml:"scp03_counter_with_data_only"`
	Response61  bool       `toml:"response_61"`
	ErrorRMAC   bool       `toml:"error_rmac"`
	LongPadding bool       `toml:"long_padding"`
	EmptySelect hexBytes   `toml:"empty_select"`
	Absent      []hexBytes `toml:"absent"`
	DataClass00 bool       `toml:"get_data_class_00"`
	Untagged    bool       `toml:"untagged_status"`
	NoReceipt   bool       `toml:"no_receipt"`
	PutKey      string     `toml:"put_key_answer"`
	DESType     hexBytes   `toml:"des_key_type"`
	KeepFactory bool       `toml:"keep_factory_keys"`
}

// putKeyAnswers are the values of put_key_answer.
var putKeyAnswers = map[string]gp.PutKeyAnswer{
	"": gp.AnswerKCVs, "check-values": gp.AnswerKCVs, "version": gp.AnswerVersion, "nothing": gp.AnswerNothing,
}

func (d *document) quirks(p *gp.Profile) error {
	e := d.Quirk
	q := gp.Quirks{
		T0: e.T0, DataCounter: e.DataCounter, Response61: e.Response61, ErrorRMAC: e.ErrorRMAC, LongPadding: e.LongPadding,
		DataClass00: e.DataClass00, Untagged: e.Untagged, NoReceipt: e.NoReceipt, KeepFactory: e.KeepFactory,
	}
	for name, f := range map[string]struct {
		from hexBytes
		to   *apdu.StatusWord
	}{"mac_error": {e.MACError, &q.MACError}, "empty_select": {e.EmptySelect, &q.EmptySelect}} {
		switch len(f.from) {
		case 0:
		case 2:
			*f.to = apdu.StatusWord(binary.BigEndian.Uint16(f.from))
		default:
			return fmt.Errorf("quirk %s is not two bytes", name)
		}
	}
	for _, tag := range e.Absent {
		if len(tag) < 1 || len(tag) > 2 {
			return fmt.Errorf("quirk absent: tag %X is not of one or two bytes", []byte(tag))
		}
		q.Absent = append(q.Absent, binary.BigEndian.Uint16(append([]byte{0, 0}, tag...)[len(tag):]))
	}
	switch len(e.DESType) {
	case 0:
	case 1:
		q.DESType = e.DESType[0]
	default:
		return fmt.Errorf("quirk des_key_type is not one byte")
	}
	var known bool
	if q.PutKey, known = putKeyAnswers[e.PutKey]; !known {
		return fmt.Errorf("quirk put_key_answer %q is none of check-values, version, nothing", e.PutKey)
	}
	p.Quirks = q
	return nil
}
