package gp

import (
	"fmt"
	"slices"

	"inkan/apdu"
)

// Quirks are deviations from the norm that real cards show. The zero value is a
// card without. Behind each stands the page that knows of it.
type Quirks struct {
	MACError    apdu.StatusWord // instead of 6982 after a wrong or missing MAC (secure-channel.md §3.4)
	T0          bool            // answers as over T=0: 61xx for case 4, 6Cxx for a wrong Le (gp-card.md §1.3)
	Response61  bool            // long answers by 61xx in steps, whatever the protocol (secure-channel.md §3.6)
	DataCounter bool            // SCP03: the encryption counter moves only for commands with data (secure-channel.md §6.4)
	ErrorRMAC   bool            // SCP02: the R-MAC comes with an error status too (secure-channel.md §5.5)
	LongPadding bool            // SCP03: encrypted answers are padded by a block too many (secure-channel.md §13)
	EmptySelect apdu.StatusWord // answer to SELECT without an AID; 0 = the default application (gp-card.md §1.2)
	Absent      []uint16        // data objects that GET DATA does not know (gp-card.md §2)
	DataClass00 bool            // GET DATA in class 00 alone (gp-card.md §2, tag 9F7F)
	Untagged    bool            // GET STATUS in the old format alone, and no list of modules (gp-card.md §4.3)
	NoReceipt   bool            // LOAD, INSTALL and DELETE answer no data (gp-card.md §5)
	PutKey      PutKeyAnswer    // what PUT KEY answers (secure-channel.md §7.2)
	DESType     byte            // type of 3DES keys in the key information; 0 = 80 (secure-channel.md §13)
	KeepFactory bool            // the factory keys FF stay beside the first real set (secure-channel.md §7.2)
}

// PutKeyAnswer is what a card answers to PUT KEY of a set.
type PutKeyAnswer uint8

// Answers to PUT KEY.
const (
	AnswerKCVs    PutKeyAnswer = iota // key version and check values
	AnswerVersion                     // key version
	AnswerNothing
)

// Oddity is one quirk in words.
type Oddity struct {
	Name string `json:"name"` // as in a card model
	Text string `json:"text"`
}

// Oddities lists the deviations.
func (q Quirks) Oddities() (all []Oddity) {
	add := func(has bool, name, format string, a ...any) {
		if has {
			all = append(all, Oddity{name, fmt.Sprintf(format, a...)})
		}
	}
	add(q.MACError != 0, "mac_error", "a wrong MAC is answered %04X, not 6982", uint16(q.MACError))
	add(q.T0, "t0", "answers as over T=0, by 61xx and 6Cxx")
	add(q.Response61, "response_61", "every answer with data comes by 61xx")
	add(q.DataCounter, "scp03_counter_with_data_only", "the encryption counter moves for commands with data alone")
	add(q.ErrorRMAC, "error_rmac", "an error status carries an R-MAC too")
	add(q.LongPadding, "long_padding", "encrypted answers are padded by a block too many")
	add(q.EmptySelect != 0, "empty_select", "SELECT without an AID is answered %04X", uint16(q.EmptySelect))
	add(len(q.Absent) > 0, "absent", "has no data objects %04X", q.Absent)
	add(q.DataClass00, "get_data_class_00", "knows GET DATA in class 00 alone")
	add(q.Untagged, "untagged_status", "knows GET STATUS in the format of Open Platform 2.0.1 alone")
	add(q.NoReceipt, "no_receipt", "LOAD, INSTALL and DELETE answer no data")
	add(q.PutKey == AnswerVersion, "put_key_answer", "PUT KEY answers no check values")
	add(q.PutKey == AnswerNothing, "put_key_answer", "PUT KEY answers nothing")
	add(q.DESType != 0, "des_key_type", "shows 3DES keys as type %02X", q.DESType)
	add(q.KeepFactory, "keep_factory_keys", "keeps its factory keys beside the first real set")
	return all
}

// check reports a quirk that cannot be.
func (q Quirks) check() error {
	switch {
	case q.DESType != 0 && (q.DESType < 0x80 || q.DESType > 0x84):
		return fmt.Errorf("quirk des_key_type %02X: 3DES keys are of type 80 to 84", q.DESType)
	case q.EmptySelect != 0 && q.EmptySelect.SW1() < 0x62:
		return fmt.Errorf("quirk empty_select %04X is no refusal", uint16(q.EmptySelect))
	case q.PutKey > AnswerNothing:
		return fmt.Errorf("quirk put_key_answer %d is none", q.PutKey)
	}
	return nil
}

// lacks reports a data object that the card does not have.
func (q Quirks) lacks(tag uint16) bool { return slices.Contains(q.Absent, tag) }
