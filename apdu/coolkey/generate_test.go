package coolkey_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/coolkey"
)

// lists is a script that carries lists in one go.
type lists struct{ batch }

func (*lists) Together() int { return 64 }

// pieces cuts the answer to a read into READ OBJECT answers.
func pieces(b []byte) (as []string) {
	for len(b) > 0 {
		n := min(len(b), coolkey.MaxPiece)
		as = append(as, hex.EncodeToString(b[:n])+"9000")
		b = b[n:]
	}
	return as
}

func TestGenerateAndReadRSA(t *testing.T) {
	t.Parallel()
	buffer := getVectors(t).KeyResult.IOBuffer // of a key of 1024 bits
	size := fmt.Sprintf("%04X9000", len(buffer))
	shorter := bytes.Clone(buffer) // exponent 3 in one byte
	i := bytes.Index(shorter, []byte{0, 3, 1, 0, 1})
	shorter = append(append(append([]byte(nil), shorter[:i]...), 0, 1, 3), shorter[i+5:]...)
	shorter[1] -= 2
	slots := coolkey.Slots{Private: 2, Public: 3}
	challenge := make([]byte, coolkey.ChallengeLen)
	for _, c := range []struct {
		name     string
		together bool
		answers  []string
		sent     int
		blob     []byte
		err      error
	}{
		{"in one list", true, append([]string{size}, pieces(buffer)...), 3, buffer, nil},
		{"one by one", false, append([]string{size}, pieces(buffer)...), 3, buffer, nil},
		{"another size", true, append([]string{fmt.Sprintf("%04X9000", len(shorter)), pieces(buffer)[0], "9C0F"}, pieces(shorter)...), 5, shorter, nil},
		{"read refused", true, append([]string{size, "9C0F"}, pieces(buffer)...), 4, buffer, nil},
		{"refused", true, []string{"9C06"}, 1, nil, coolkey.SWUnauthorized},
		{"left", true, nil, 1, nil, apdu.ErrCardRemoved},
	} {
		t.Run("case="+c.name, func(t *testing.T) {
			one := &batch{script{answers: c.answers}}
			var d apdu.Doer = one
			if c.together {
				l := &lists{*one}
				one, d = &l.batch, l
			}
			res, err := coolkey.GenerateAndReadRSA(t.Context(), d, slots, 1024, challenge)
			if !errors.Is(err, c.err) || len(one.sent) != c.sent {
				t.Fatalf("%v, sent %q", err, one.sent)
			}
			if c.blob != nil && !bytes.Contains(c.blob, res.Blob) || c.blob != nil && len(res.Blob) == 0 {
				t.Errorf("blob %X is not that of %X", res.Blob, c.blob)
			}
			made := 0
			for _, s := range one.sent {
				if s[:4] == "840C" {
					made++
				}
			}
			if made != 1 {
				t.Errorf("%d keys were made", made)
			}
		})
	}
}

func TestCreateAndSetPIN(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answers []string
		err     error
	}{
		{[]string{"9000", "9000"}, nil},
		{[]string{"9C10", "9000"}, nil}, // there is one
		{[]string{"9C06", "9C06"}, coolkey.SWUnauthorized},
		{[]string{"9C10", "9C0F"}, coolkey.SWInvalidParameter},
		{[]string{"9000"}, apdu.ErrCardRemoved},
	} {
		d := &batch{script{answers: c.answers}}
		err := coolkey.CreateAndSetPIN(t.Context(), d, 0, 3, pinOf(t, "initial1"), pinOf(t, "1234"))
		if !errors.Is(err, c.err) || len(d.sent) != 2 || d.sent[1] != "840400000431323334" {
			t.Errorf("%v: %v, sent %q", c.answers, err, d.sent)
		}
	}
}

// What is read ahead is what the functions ask for: nothing is asked twice.
func TestReadAheadLists(t *testing.T) {
	t.Parallel()
	status := "0100 0104 00002000 00001F00 01 02 0000 9000"
	key := func(n int) string { return fmt.Sprintf("%02X 03 FF 0400 0000 0000 0001 9000", n) }
	d := &lists{batch{script{answers: []string{
		"9000", status, "66000001 9000", status, "0F 9000", "6162" + strings.Repeat("00", 222) + "9000", key(2), key(3), "9000", "9000", "9000", "9000", "9000",
	}}}}
	a, err := apdu.ReadAhead(t.Context(), d, slices.Concat(coolkey.DescribeEntries(),
		[]apdu.Entry{{Command: coolkey.ReadIssuerInfoCommand(), Mode: apdu.Plain}}, coolkey.ListKeysEntries()))
	if err != nil {
		t.Fatal(err)
	}
	sent := len(d.sent)
	if err := coolkey.Select(t.Context(), a); err != nil {
		t.Error(err)
	}
	if v, err := coolkey.ReadVersion(t.Context(), a); err != nil || v.String() != "1.4.66000001" {
		t.Errorf("version %v, %v", v, err)
	}
	if s, err := coolkey.ReadStatus(t.Context(), a); err != nil || s.PINs != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if l, err := coolkey.ReadLifeCycle(t.Context(), a); err != nil || l != coolkey.Personalized {
		t.Errorf("%v, %v", l, err)
	}
	if s, err := coolkey.ReadIssuerInfo(t.Context(), a); err != nil || s != "ab" {
		t.Errorf("%q, %v", s, err)
	}
	if ks, err := coolkey.ListKeys(t.Context(), a); err != nil || len(ks) != 2 {
		t.Errorf("%+v, %v", ks, err)
	}
	if len(d.sent) != sent {
		t.Errorf("asked again: %q", d.sent[sent:])
	}
	object := "7A300000 00000010 0000 0000 0000 9000"
	d = &lists{batch{script{answers: []string{object, "9C12"}}}}
	if a, err = apdu.ReadAhead(t.Context(), d, coolkey.ListObjectsEntries()); err != nil {
		t.Fatal(err)
	}
	if os, err := coolkey.ListObjects(t.Context(), a); err != nil || len(os) != 1 || len(d.sent) != 2 {
		t.Errorf("%+v, %v, sent %q", os, err, d.sent)
	}
}

func TestVersionOf(t *testing.T) {
	t.Parallel()
	good := []apdu.Response{{Data: []byte{1, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, SW: apdu.SWSuccess}, {Data: []byte{0x66, 0, 0, 1}, SW: apdu.SWSuccess}}
	if v, err := coolkey.VersionOf(good); err != nil || v.String() != "1.4.66000001" {
		t.Errorf("%v, %v", v, err)
	}
	for _, rs := range [][]apdu.Response{nil, good[:1], {good[0], {SW: apdu.SWInsNotSupported}}, {good[1], good[0]}, {{SW: apdu.SWSuccess}, good[1]}} {
		if v, err := coolkey.VersionOf(rs); err == nil {
			t.Errorf("%+v: %v", rs, v)
		}
	}
}

func TestIssuerInfoOf(t *testing.T) {
	t.Parallel()
	full := append([]byte("http://tps"), make([]byte, coolkey.IssuerInfoLen-10)...)
	if s, err := coolkey.IssuerInfoOf(apdu.Response{Data: full, SW: apdu.SWSuccess}); err != nil || s != "http://tps" {
		t.Errorf("%q, %v", s, err)
	}
	for name, r := range map[string]apdu.Response{"short": {Data: full[1:], SW: apdu.SWSuccess}, "refused": {SW: 0x6D00}} {
		if s, err := coolkey.IssuerInfoOf(r); err == nil {
			t.Errorf("%s: %q", name, s)
		}
	}
}
