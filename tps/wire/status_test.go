package wire_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"inkan/tps/wire"
)

// The names of tps-protocol.md §9 in order; 37 has two, 47 and 48 are local.
var statusNames = strings.Fields(`NO_ERROR ERROR_SNAC ERROR_SEC_INIT_UPDATE ERROR_CREATE_CARDMGR
ERROR_MAC_RESET_PIN_PDU ERROR_MAC_CERT_PDU ERROR_MAC_LIFECYCLE_PDU ERROR_MAC_ENROLL_PDU
ERROR_CANNOT_PERFORM_OPERATION ERROR_BAD_STATUS ERROR_CA_RESPONSE ERROR_READ_BUFFER_OVERFLOW
ERROR_TOKEN_RESET_PIN_FAILED ERROR_CONNECTION ERROR_LOGIN ERROR_DB ERROR_UNKNOWN_TOKEN
ERROR_SECURE_CHANNEL ERROR_MISCONFIGURATION ERROR_UPGRADE_APPLET ERROR_KEY_CHANGE_OVER
ERROR_EXTERNAL_AUTH ERROR_MAPPING_RESOLVER_FAILED ERROR_MAPPING_RESOLVER_PARAMS_NOT_FOUND
ERROR_PUBLISH ERROR_LDAP_CONN ERROR_DISABLED_TOKEN ERROR_NOT_PIN_RESETABLE ERROR_CONN_LOST
ERROR_CREATE_TUS_TOKEN_ENTRY ERROR_NO_SUCH_TOKEN_STATE ERROR_NO_SUCH_LOST_REASON
ERROR_UNUSABLE_TOKEN_KEYCOMPROMISE ERROR_INACTIVE_TOKEN_NOT_FOUND ERROR_HAS_AT_LEAST_ONE_ACTIVE_TOKEN
ERROR_TOKEN_TERMINATED RECOVERY_IS_PROCESSED ERROR_RECOVERY_FAILED ERROR_NO_OPERATION_ON_LOST_TOKEN
ERROR_KEY_ARCHIVE_OFF ERROR_NO_TKS_CONNID ERROR_UPDATE_TOKENDB_FAILED ERROR_REVOKE_CERTIFICATES_FAILED
ERROR_NOT_TOKEN_OWNER RENEWAL_IS_PROCESSED ERROR_CANNOT_ESTABLISH_COMMUNICATION
ERROR_SYMKEY_256_UPGRADE CLIENT_HTTP CLIENT_READER`)

func TestExplain(t *testing.T) {
	t.Parallel()
	if len(statusNames) != 49 {
		t.Fatalf("%d names", len(statusNames))
	}
	seen := map[string]int{}
	for code, name := range statusNames {
		x := wire.Explain(code)
		if x.Status != code || x.Name != name {
			t.Errorf("status %d: %+v, want %s", code, x, name)
		}
		if x.What == "" || x.Do == "" || x.Card < wire.CardUnchanged || x.Card > wire.CardRefused {
			t.Errorf("status %d does not say what happened, how the card is and what to do: %+v", code, x)
		}
		if other, ok := seen[x.What]; ok {
			t.Errorf("status %d and %d say the same", code, other)
		}
		seen[x.What] = code
		if text := (&wire.EndError{Operation: wire.Enroll, Status: code}).Error(); !strings.Contains(text, x.What) ||
			!strings.Contains(text, x.Card.String()) || !strings.Contains(text, x.Do) {
			t.Errorf("status %d: %q", code, text)
		}
	}
	for _, code := range []int{-1, 49, 1000} {
		if x := wire.Explain(code); x.Name != "" || x.What == "" || x.Do == "" || !strings.Contains(x.Card.String(), "not known") {
			t.Errorf("status %d: %+v", code, x)
		}
	}
	// Status 17 is also what a key service gives that does not answer (§9): then waiting
	// is right, and trying on and on is not where the card is the reason.
	text := (&wire.EndError{Operation: wire.Format, Status: 17}).Error()
	for _, want := range []string{"key service does not answer", "once more in a few minutes", "cards lock themselves"} {
		if !strings.Contains(text, want) {
			t.Errorf("status 17: %q, want %q in it", text, want)
		}
	}
	err := error(&wire.EndError{Operation: wire.Format, Status: 28, Err: io.ErrUnexpectedEOF})
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "format") {
		t.Errorf("%v", err)
	}
}

func TestOperationNames(t *testing.T) {
	t.Parallel()
	for o := wire.Enroll; o <= wire.KeyChangeover; o++ {
		if !o.Valid() || strings.HasPrefix(o.String(), "operation ") {
			t.Errorf("%d: valid %t, %q", int(o), o.Valid(), o)
		}
	}
	for _, o := range []wire.Operation{-1, 0, 7} {
		if o.Valid() || !strings.HasPrefix(o.String(), "operation ") {
			t.Errorf("%d: valid %t, %q", int(o), o.Valid(), o)
		}
	}
	if s := wire.Type(36).String(); s != "message type 36" {
		t.Error(s)
	}
}
