package piv_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
)

// answers is a card that answers all commands alike and keeps what it got.
type answers struct {
	resp apdu.Response
	sent []apdu.Command
}

func (a *answers) Do(_ context.Context, c apdu.Command) (apdu.Response, error) {
	c.Data = append([]byte(nil), c.Data...)
	a.sent = append(a.sent, c)
	return a.resp, nil
}

// TestShortAnswers: answers of wrong lengths are errors, never panics.
func TestShortAnswers(t *testing.T) {
	t.Parallel()
	key := secret.New(piv.DefaultManagementKey())
	for _, data := range []string{"", "00", "7C", "7C00", "7C028000", "7C038201", "7F4900", "53", "5303AA", "30", "FFFFFFFFFF"} {
		d := &answers{resp: apdu.Response{Data: unhex(t, data), SW: apdu.SWSuccess}}
		for name, run := range map[string]func() error{
			"select":    func() error { _, err := piv.Select(t.Context(), d); return err },
			"version":   func() error { _, err := piv.ReadVersion(t.Context(), d); return err },
			"serial":    func() error { _, err := piv.ReadSerial(t.Context(), d); return err },
			"OTP":       func() error { _, err := piv.ReadOTPSerial(t.Context(), d); return err },
			"metadata":  func() error { _, err := piv.ReadMetadata(t.Context(), d, piv.Signature); return err },
			"get data":  func() error { _, err := piv.GetData(t.Context(), d, piv.CHUIDObject); return err },
			"generate":  func() error { _, err := piv.Generate(t.Context(), d, 0x9A, piv.P256, piv.Policy{}); return err },
			"RSA":       func() error { _, err := piv.Generate(t.Context(), d, 0x9A, piv.RSA2048, piv.Policy{}); return err },
			"attest":    func() error { _, err := piv.Attest(t.Context(), d, piv.Signature); return err },
			"sign":      func() error { _, err := piv.Sign(t.Context(), d, 0x9A, piv.P256, []byte{1}); return err },
			"mutual":    func() error { return piv.Authenticate(t.Context(), d, piv.TripleDES, key) },
			"single":    func() error { return piv.AuthenticateHost(t.Context(), d, piv.TripleDES, key) },
			"cert":      func() error { _, err := piv.ReadCertificate(t.Context(), d, piv.Signature); return err },
			"no object": func() error { _, err := piv.ReadCertificate(t.Context(), d, piv.Management); return err },
		} {
			if n := len(d.resp.Data); name == "version" && n == 3 || name == "serial" && n == 4 {
				continue // any bytes will do
			}
			if run() == nil {
				t.Errorf("%s: the answer %q is taken", name, data)
			}
		}
	}
}

// TestOldStatus: cards count tries in 63Cx, some in 630x, some not at all.
func TestOldStatus(t *testing.T) {
	t.Parallel()
	pin, err := secret.NewPIN([]byte("123456"))
	if err != nil {
		t.Fatal(err)
	}
	for sw, tries := range map[apdu.StatusWord]int{0x63C2: 2, 0x6302: 2, 0x6300: -1, 0x6983: 0} {
		var e *piv.PINError
		err := piv.VerifyPIN(t.Context(), &answers{resp: apdu.Response{SW: sw}}, pin)
		if !errors.As(err, &e) || e.Tries != tries || !errors.Is(err, sw) || e.Blocked() != (tries == 0) {
			t.Errorf("%v: %v", sw, err)
		}
		if strings.Contains(err.Error(), "123456") {
			t.Error("the PIN is in the error")
		}
	}
}

// TestChaining: long data go out in parts, and a refused part ends it.
func TestChaining(t *testing.T) {
	t.Parallel()
	d := &answers{resp: apdu.Response{SW: apdu.SWSuccess}}
	if err := piv.PutData(t.Context(), d, piv.CHUIDObject, make([]byte, 600)); err != nil {
		t.Fatal(err)
	}
	if len(d.sent) != 3 || d.sent[0].CLA != 0x10 || d.sent[1].CLA != 0x10 || d.sent[2].CLA != 0 || len(d.sent[0].Data) != 255 {
		t.Errorf("%d parts", len(d.sent))
	}
	d = &answers{resp: apdu.Response{SW: apdu.SWSecurityStatus}}
	if err := piv.PutData(t.Context(), d, piv.CHUIDObject, make([]byte, 600)); !errors.Is(err, apdu.SWSecurityStatus) || len(d.sent) != 1 {
		t.Errorf("%d parts, %v", len(d.sent), err)
	}
}

// TestKeysOfWrongLength never reach the card.
func TestKeysOfWrongLength(t *testing.T) {
	t.Parallel()
	d := &answers{}
	short := secret.New(make([]byte, 8))
	if piv.Authenticate(t.Context(), d, piv.AES128, short) == nil || piv.AuthenticateHost(t.Context(), d, piv.P256, short) == nil ||
		piv.SetManagementKey(t.Context(), d, piv.AES256, short, false) == nil || piv.SetRetries(t.Context(), d, 0, 3) == nil ||
		piv.WriteCertificate(t.Context(), d, piv.Management, nil) == nil {
		t.Error("taken")
	}
	if err := piv.Import(t.Context(), d, piv.Signature, "key", piv.Policy{}); err == nil {
		t.Error("a string is imported")
	}
	if len(d.sent) != 0 {
		t.Errorf("%d commands sent", len(d.sent))
	}
}
