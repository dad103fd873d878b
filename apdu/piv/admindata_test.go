package piv_test

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"

	"inkan/apdu/piv"
	"inkan/apdu/secret"
)

func TestAdminData(t *testing.T) {
	t.Parallel()
	salt := []byte("0123456789ABCDEF")
	for name, c := range map[string]struct {
		b    string
		want piv.AdminContent
		ok   bool
	}{
		"stored":              {"\x80\x03\x81\x01\x02", piv.AdminContent{Stored: true}, true},
		"stored, PUK blocked": {"\x80\x03\x81\x01\x03", piv.AdminContent{Stored: true, PUKBlocked: true}, true},
		"PUK blocked":         {"\x80\x03\x81\x01\x01", piv.AdminContent{PUKBlocked: true}, true},
		"derived":             {"\x80\x12\x82\x10" + string(salt), piv.AdminContent{Salt: salt}, true},
		"with a time":         {"\x80\x09\x81\x01\x02\x83\x04\x00\x00\x00\x01", piv.AdminContent{Stored: true}, true},
		"nothing noted":       {"\x80\x00", piv.AdminContent{}, true},
		"empty":               {"", piv.AdminContent{}, false},
		"other tag":           {"\x81\x01\x02", piv.AdminContent{}, false},
		"more behind":         {"\x80\x03\x81\x01\x02\x00", piv.AdminContent{}, false},
		"no flags in it":      {"\x80\x02\x81\x00", piv.AdminContent{}, false},
		"short salt":          {"\x80\x03\x82\x01\x02", piv.AdminContent{}, false},
	} {
		got, err := piv.ParseAdminData([]byte(c.b))
		if (err == nil) != c.ok || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if got.BehindPIN() != (c.want.Stored || c.want.Salt != nil) {
			t.Errorf("%s: behind the PIN: %v", name, got.BehindPIN())
		}
	}
}

// TestManagementKeyBehindPIN: 24 bytes as ykman and piv-go store them, the other lengths
// as ykman does, and as piv-go does, anew and over a key; a derived key as Python's
// hashlib.pbkdf2_hmac gives it.
func TestManagementKeyBehindPIN(t *testing.T) {
	t.Parallel()
	for _, n := range []int{16, 24, 32} {
		key := bytes.Repeat([]byte{7}, n)
		content := append([]byte{0x88, byte(n + 2), 0x89, byte(n)}, key...)
		got, err := piv.ParseStoredManagementKey(content)
		if err != nil || !bytes.Equal(got.Bytes(), key) || !bytes.Equal(piv.StoredManagementKey(got), content) {
			t.Errorf("%d bytes: %v", n, err)
		}
		for _, outer := range []byte{26, byte(n + 2)} {
			content[1], content[3] = outer, 24
			if got, err := piv.ParseStoredManagementKey(content); err != nil || !bytes.Equal(got.Bytes(), key) {
				t.Errorf("%d bytes behind the lengths %d and 24: %v", n, outer, err)
			}
		}
	}
	for _, none := range []string{"", "\x88\x00", "\x88\x03\x89\x01\x07", "\x01\x03Ada\xFE\x00"} {
		if _, err := piv.ParseStoredManagementKey([]byte(none)); err == nil {
			t.Errorf("%X: a key", none)
		}
	}
	pin, err := secret.NewPIN([]byte("123456"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := piv.DerivedManagementKey(pin, []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	if want := "6f4f2d621842bcdf52c44ef73d28d6017045e5d543b5547d"; err != nil || hex.EncodeToString(got.Bytes()) != want {
		t.Errorf("%x, %v, want %s", got.Bytes(), err, want)
	}
}

func FuzzAdminDataRoundTrip(f *testing.F) {
	f.Add([]byte{0x80, 0x03, 0x81, 0x01, 0x03})
	f.Add(append([]byte{0x80, 0x15, 0x81, 0x01, 0x01, 0x82, 0x10}, make([]byte, 16)...))
	f.Add([]byte{0x88, 0x12, 0x89, 0x10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	f.Add(append([]byte{0x88, 0x1A, 0x89, 0x18}, make([]byte, 32)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := piv.ParseStoredManagementKey(b); err == nil {
			again, err := piv.ParseStoredManagementKey(piv.StoredManagementKey(key))
			if err != nil || !again.Equal(key) {
				t.Errorf("the stored key came back as another: %v", err)
			}
		}
		a, err := piv.ParseAdminData(b)
		if err != nil {
			return
		}
		if again, err := piv.ParseAdminData(a.Encode()); err != nil || !reflect.DeepEqual(again, a) {
			t.Errorf("%+v, then %+v, %v", a, again, err)
		}
	})
}
