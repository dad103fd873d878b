package apdu

import "fmt"

// StatusWord is SW1 SW2 of a response. It is an error whose value can be
// compared: errors.Is(err, apdu.SWFileNotFound).
type StatusWord uint16

// Status words of ISO 7816-4 §5.6 and GlobalPlatform 2.3.1 §11.1.3.
const (
	SWSuccess              StatusWord = 0x9000
	SWCardLocked           StatusWord = 0x6283
	SWAuthFailed           StatusWord = 0x6300 // GP: authentication of host cryptogram failed
	SWMoreData             StatusWord = 0x6310 // GP GET STATUS: more entries
	SWNoDiagnosis          StatusWord = 0x6400
	SWMemoryFailure        StatusWord = 0x6581
	SWWrongLength          StatusWord = 0x6700
	SWChannelNotSupported  StatusWord = 0x6881
	SWSMNotSupported       StatusWord = 0x6882
	SWSecurityStatus       StatusWord = 0x6982
	SWAuthBlocked          StatusWord = 0x6983
	SWConditionsOfUse      StatusWord = 0x6985
	SWSMExpected           StatusWord = 0x6987
	SWSMIncorrect          StatusWord = 0x6988
	SWWrongData            StatusWord = 0x6A80
	SWFuncNotSupported     StatusWord = 0x6A81
	SWFileNotFound         StatusWord = 0x6A82
	SWNoMemory             StatusWord = 0x6A84
	SWIncorrectP1P2        StatusWord = 0x6A86
	SWReferencedNotFound   StatusWord = 0x6A88
	SWWrongP1P2            StatusWord = 0x6B00
	SWInsNotSupported      StatusWord = 0x6D00
	SWClaNotSupported      StatusWord = 0x6E00
	SWUnknown              StatusWord = 0x6F00
	SWAlgorithmUnsupported StatusWord = 0x9484 // GP 2.2.1 PUT KEY
	SWInvalidKCV           StatusWord = 0x9485 // GP 2.2.1 PUT KEY
)

// String is four upper-case hexadecimal digits.
func (s StatusWord) String() string { return fmt.Sprintf("%04X", uint16(s)) }

// Error implements error.
func (s StatusWord) Error() string {
	if t, ok := statusText[s]; ok {
		return fmt.Sprintf("status %04X (%s)", uint16(s), t)
	}
	return fmt.Sprintf("status %04X", uint16(s))
}

// SW1 is the first byte.
func (s StatusWord) SW1() byte { return byte(s >> 8) }

// SW2 is the second byte.
func (s StatusWord) SW2() byte { return byte(s) }

// IsWarning reports a 62xx or 63xx status.
func (s StatusWord) IsWarning() bool { return s.SW1() == 0x62 || s.SW1() == 0x63 }

// Retries is the number of further tries of a 63Cx status.
func (s StatusWord) Retries() (n int, ok bool) {
	if s&0xFFF0 == 0x63C0 {
		return int(s & 0xF), true
	}
	return 0, false
}

var statusText = map[StatusWord]string{
	SWSuccess:              "success",
	SWCardLocked:           "card locked",
	SWAuthFailed:           "authentication failed",
	SWMoreData:             "more data",
	SWNoDiagnosis:          "no precise diagnosis",
	SWMemoryFailure:        "memory failure",
	SWWrongLength:          "wrong length",
	SWChannelNotSupported:  "logical channel not supported",
	SWSMNotSupported:       "secure messaging not supported",
	SWSecurityStatus:       "security status not satisfied",
	SWAuthBlocked:          "authentication method blocked",
	SWConditionsOfUse:      "conditions of use not satisfied",
	SWSMExpected:           "secure messaging objects missing",
	SWSMIncorrect:          "secure messaging objects incorrect",
	SWWrongData:            "incorrect data",
	SWFuncNotSupported:     "function not supported",
	SWFileNotFound:         "file or application not found",
	SWNoMemory:             "not enough memory",
	SWIncorrectP1P2:        "incorrect P1 P2",
	SWReferencedNotFound:   "referenced data not found",
	SWWrongP1P2:            "wrong P1 P2",
	SWInsNotSupported:      "instruction not supported",
	SWClaNotSupported:      "class not supported",
	SWUnknown:              "no precise diagnosis",
	SWAlgorithmUnsupported: "algorithm not supported",
	SWInvalidKCV:           "invalid key check value",
}

// StatusError is a command that a card refused. It never holds the command's
// data. It unwraps to its StatusWord.
type StatusError struct {
	CLA, INS, P1, P2 byte
	SW               StatusWord
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("command %02X%02X%02X%02X: %v", e.CLA, e.INS, e.P1, e.P2, e.SW)
}

// Unwrap returns the status word.
func (e *StatusError) Unwrap() error { return e.SW }

// Check returns nil for 9000 and a *StatusError naming c for everything else.
func (r Response) Check(c Command) error {
	if r.SW == SWSuccess {
		return nil
	}
	return &StatusError{CLA: c.CLA, INS: c.INS, P1: c.P1, P2: c.P2, SW: r.SW}
}
