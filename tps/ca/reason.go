package ca

import (
	"fmt"
	"strings"
)

// reasonNames are those of RFC 5280 §5.3.1.
var reasonNames = map[Reason]string{
	ReasonUnspecified: "unspecified", ReasonKeyCompromise: "keyCompromise", ReasonAffiliationChanged: "affiliationChanged",
	ReasonSuperseded: "superseded", ReasonCessationOfOperation: "cessationOfOperation",
	ReasonCertificateHold: "certificateHold", ReasonRemoveFromCRL: "removeFromCRL",
}

// String is the reason's name in RFC 5280: keyCompromise, superseded, …
func (r Reason) String() string {
	if n, ok := reasonNames[r]; ok {
		return n
	}
	return fmt.Sprintf("reason %d", int(r))
}

// ParseReason reads the name of a reason, in any case and with or without
// hyphens: keyCompromise, key-compromise.
func ParseReason(s string) (Reason, error) {
	plain := strings.ReplaceAll(s, "-", "")
	for r, n := range reasonNames {
		if strings.EqualFold(plain, n) {
			return r, nil
		}
	}
	return 0, fmt.Errorf("revocation reason %q: want keyCompromise, affiliationChanged, superseded, cessationOfOperation or unspecified", s)
}
