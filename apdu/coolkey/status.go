package coolkey

import (
	"errors"
	"fmt"

	"inkan/apdu"
)

// Status words of the applet.
const (
	SWListEnd             apdu.StatusWord = 0x9C00 // Dogtag's soft token: there are no objects
	SWNoMemory            apdu.StatusWord = 0x9C01
	SWAuthFailed          apdu.StatusWord = 0x9C02
	SWNotAllowed          apdu.StatusWord = 0x9C03
	SWUnsupported         apdu.StatusWord = 0x9C05
	SWUnauthorized        apdu.StatusWord = 0x9C06
	SWObjectNotFound      apdu.StatusWord = 0x9C07
	SWObjectExists        apdu.StatusWord = 0x9C08
	SWIncorrectAlgorithm  apdu.StatusWord = 0x9C09
	SWSignatureInvalid    apdu.StatusWord = 0x9C0B
	SWIdentityBlocked     apdu.StatusWord = 0x9C0C
	SWUnspecified         apdu.StatusWord = 0x9C0D
	SWInvalidParameter    apdu.StatusWord = 0x9C0F
	SWIncorrectP1         apdu.StatusWord = 0x9C10
	SWIncorrectP2         apdu.StatusWord = 0x9C11
	SWSequenceEnd         apdu.StatusWord = 0x9C12
	SWDirUnsupported      apdu.StatusWord = 0x9C13
	SWDirInvalid          apdu.StatusWord = 0x9C14
	SWLocationUnsupported apdu.StatusWord = 0x9C15
	SWLocationInvalid     apdu.StatusWord = 0x9C16
	SWKeyTypeUnsupported  apdu.StatusWord = 0x9C17
	SWKeyTypeInvalid      apdu.StatusWord = 0x9C18
	SWDataSize            apdu.StatusWord = 0x9C19
	SWKeySize             apdu.StatusWord = 0x9C1A
	SWModeUnsupported     apdu.StatusWord = 0x9C1B
	SWModeInvalid         apdu.StatusWord = 0x9C1C
	SWOutputTooSmall      apdu.StatusWord = 0x9C1D
	SWKeyPairing          apdu.StatusWord = 0x9C1E
	SWInputTooSmall       apdu.StatusWord = 0x9C1F
	SWBadWrappedKey       apdu.StatusWord = 0x9C20
	SWBadAlgorithmID      apdu.StatusWord = 0x9C21
	SWBadPrivateKey       apdu.StatusWord = 0x9C22
	SWBadDER              apdu.StatusWord = 0x9CD0
	SWInternal            apdu.StatusWord = 0x9CFF
)

var statusText = map[apdu.StatusWord]string{
	SWListEnd:             "nothing to list",
	SWNoMemory:            "not enough memory on the card",
	SWAuthFailed:          "wrong PIN",
	SWNotAllowed:          "operation not allowed",
	SWUnsupported:         "feature not supported",
	SWUnauthorized:        "not authorized: access rule or nonce",
	SWObjectNotFound:      "object not found",
	SWObjectExists:        "object exists already",
	SWIncorrectAlgorithm:  "incorrect algorithm",
	SWSignatureInvalid:    "signature invalid",
	SWIdentityBlocked:     "PIN blocked",
	SWUnspecified:         "unspecified error",
	SWInvalidParameter:    "invalid parameter",
	SWIncorrectP1:         "incorrect P1",
	SWIncorrectP2:         "incorrect P2",
	SWSequenceEnd:         "end of sequence",
	SWDirUnsupported:      "cipher direction not supported",
	SWDirInvalid:          "cipher direction invalid",
	SWLocationUnsupported: "data location not supported",
	SWLocationInvalid:     "data location invalid",
	SWKeyTypeUnsupported:  "key type not supported",
	SWKeyTypeInvalid:      "key type invalid",
	SWDataSize:            "wrong amount of data for the key",
	SWKeySize:             "key size not supported",
	SWModeUnsupported:     "cipher mode not supported",
	SWModeInvalid:         "cipher mode invalid",
	SWOutputTooSmall:      "output buffer too small",
	SWKeyPairing:          "key slots belong to different pairs",
	SWInputTooSmall:       "input buffer too small",
	SWBadWrappedKey:       "wrapped transport key does not check",
	SWBadAlgorithmID:      "wrapped private key has an unknown algorithm",
	SWBadPrivateKey:       "wrapped private key does not decrypt",
	SWBadDER:              "wrapped private key is malformed",
	SWInternal:            "internal error of the applet",
}

// named adds the applet's meaning of a status word to an error that carries one.
func named(err error) error {
	var se *apdu.StatusError
	if !errors.As(err, &se) {
		return err
	}
	if t, ok := statusText[se.SW]; ok {
		return fmt.Errorf("%w (%s)", err, t)
	}
	return err
}
