//go:build cgo && !windows

package local_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/hsm/hsmtest"
	"inkan/tks/kdf"
	"inkan/tks/local"
)

// blockData are the mechanisms that derive by what a block cipher encrypts.
var blockData = []uint{p11.CKM_AES_ECB_ENCRYPT_DATA, p11.CKM_AES_CBC_ENCRYPT_DATA, p11.CKM_DES3_ECB_ENCRYPT_DATA, p11.CKM_DES3_CBC_ENCRYPT_DATA}

// des are the mechanisms of 3DES.
var des = []uint{p11.CKM_DES3_ECB, p11.CKM_DES3_CBC, p11.CKM_DES3_CBC_PAD, p11.CKM_DES3_ECB_ENCRYPT_DATA, p11.CKM_DES3_CBC_ENCRYPT_DATA,
	p11.CKM_DES2_KEY_GEN, p11.CKM_DES3_KEY_GEN}

// served is what becomes of a key set: its level and a part of the reason, or of the
// refusal where the level is 0.
type served struct {
	level hsm.Level
	text  string
}

// engines lack what the documents of their makers say that they lack (hsm.md §17).
var engines = []struct {
	hsmtest.Engine
	sets map[kdf.Code]served // made with the usual type
	how  map[string]string   // strategies in force
}{
	{
		hsmtest.Engine{Name: "whole"},
		map[kdf.Code]served{
			kdf.KDF3: {hsm.LevelA, ""}, kdf.GPKMC: {hsm.LevelA, ""},
			kdf.VISA2: {hsm.LevelB, "CKM_DES3_ECB(0x132)"}, kdf.DogtagEMV: {hsm.LevelA, ""},
			kdf.DogtagSP800: {hsm.LevelC, "CKM_SHA256_HMAC"},
		},
		map[string]string{"derive SCP02 session keys": "CKM_DES3_CBC_ENCRYPT_DATA", "compute AES-CMAC": "CKM_AES_CMAC"},
	},
	{ // AES only, CBC only, as YubiHSM 2 has it
		hsmtest.Engine{Name: "AES in CBC only", Sign: []uint{p11.CKM_AES_CMAC, p11.CKM_SHA256_HMAC}, Derive: blockData,
			Encrypt: des, Wrap: append(des, p11.CKM_AES_CBC), Generate: des, KeyTypes: []uint{p11.CKK_DES2, p11.CKK_DES3}},
		map[kdf.Code]served{
			kdf.KDF3:        {hsm.LevelC, "CKM_AES_ECB_ENCRYPT_DATA(0x1104) CKR_MECHANISM_INVALID(0x70)"},
			kdf.VISA2:       {0, "C_CreateObject of CKK_DES2(0x14) CKR_ATTRIBUTE_VALUE_INVALID(0x13)"},
			kdf.DogtagVISA2: {0, "C_CreateObject of CKK_DES2(0x14)"},
			kdf.DogtagSP800: {0, "CKM_SHA256_HMAC(0x251) CKR_MECHANISM_INVALID(0x70)"},
		},
		map[string]string{"compute AES-CMAC": "CKM_AES_CBC"},
	},
	{ // no derivation and no CMAC, as AWS CloudHSM
		hsmtest.Engine{Name: "no derivation", Sign: []uint{p11.CKM_AES_CMAC}, Derive: blockData},
		map[kdf.Code]served{
			kdf.KDF3:      {hsm.LevelC, "CKM_AES_ECB_ENCRYPT_DATA(0x1104)"},
			kdf.EMV:       {hsm.LevelC, "CKM_DES3_ECB_ENCRYPT_DATA(0x1102)"},
			kdf.DogtagEMV: {hsm.LevelC, "CKM_DES3_ECB_ENCRYPT_DATA(0x1102)"},
		},
		map[string]string{"derive SCP02 session keys": "CKM_DES3_CBC, in memory: CKM_DES3_CBC_ENCRYPT_DATA(0x1103) CKR_MECHANISM_INVALID(0x70)"},
	},
	{ // 3DES keys exist but may not encrypt, wrap or be made, as Luna in FIPS mode
		hsmtest.Engine{Name: "FIPS mode", Encrypt: des, Wrap: des, Generate: des, Derive: des},
		map[kdf.Code]served{
			kdf.KDF3:  {hsm.LevelA, ""},
			kdf.VISA2: {0, "CKM_DES3_ECB_ENCRYPT_DATA(0x1102) CKR_MECHANISM_INVALID(0x70); CKM_DES3_CBC(0x133) does not work either"},
		},
		nil,
	},
	{ // no clear key may be created, as in FIPS 140 level 3
		hsmtest.Engine{Name: "no clear keys", Create: []uint{p11.CKO_SECRET_KEY}},
		map[kdf.Code]served{kdf.KDF3: {hsm.LevelA, ""}, kdf.VISA2: {hsm.LevelB, "CKM_DES3_ECB(0x132)"}, kdf.DogtagSP800: {hsm.LevelC, "CKM_SHA256_HMAC"}},
		map[string]string{"hold DES keys of known value": "C_UnwrapKey of CKK_DES2 by CKM_AES_KEY_WRAP"},
	},
	{ // neither created nor unwrapped
		hsmtest.Engine{Name: "no keys from outside", Create: []uint{p11.CKO_SECRET_KEY}, Unwrap: []uint{p11.CKM_AES_KEY_WRAP}},
		map[kdf.Code]served{kdf.KDF3: {0, "C_CreateObject of CKK_AES(0x1F) CKR_TEMPLATE_INCONSISTENT(0xD1); C_UnwrapKey of CKK_AES by CKM_AES_KEY_WRAP(0x2109) CKR_MECHANISM_INVALID(0x70)"}},
		nil,
	},
	{ // 3DES keys have three parts
		hsmtest.Engine{Name: "no keys of two parts", KeyTypes: []uint{p11.CKK_DES2}, Generate: []uint{p11.CKM_DES2_KEY_GEN}},
		map[kdf.Code]served{kdf.EMV: {hsm.LevelB, "CKM_DES3_ECB(0x132)"}, kdf.DogtagEMV: {hsm.LevelA, ""}},
		map[string]string{
			"hold DES keys of known value": "C_CreateObject of CKK_DES3",
			"derive SCP02 session keys":    "CKM_DES3_CBC, in memory: CKM_DES3_CBC_ENCRYPT_DATA(0x1103) gives a wrong answer",
		},
	},
	{ // ECB derivation alone
		hsmtest.Engine{Name: "no CBC derivation", Derive: []uint{p11.CKM_AES_CBC_ENCRYPT_DATA, p11.CKM_DES3_CBC_ENCRYPT_DATA}},
		map[kdf.Code]served{kdf.KDF3: {hsm.LevelA, ""}, kdf.VISA2: {hsm.LevelB, "CKM_DES3_ECB(0x132)"}},
		map[string]string{"derive SCP02 session keys": "CKM_DES3_CBC, in memory: CKM_DES3_CBC_ENCRYPT_DATA(0x1103) CKR_MECHANISM_INVALID(0x70)"},
	},
	{
		hsmtest.Engine{Name: "no AES wrapping", Wrap: []uint{p11.CKM_AES_CBC}},
		map[kdf.Code]served{kdf.KDF3: {hsm.LevelB, "CKM_AES_CBC(0x1082) CKR_MECHANISM_INVALID(0x70)"}},
		map[string]string{"wrap AES card keys for PUT KEY": "CKM_AES_CBC, in memory: CKM_AES_CBC(0x1082) CKR_MECHANISM_INVALID(0x70)"},
	},
}

// TestEngines: each engine serves what it can, at the level that it can, and what it
// cannot is refused by a message that names key set and mechanism.
func TestEngines(t *testing.T) {
	for _, e := range engines {
		t.Run("engine="+strings.ReplaceAll(e.Name, " ", "-"), func(t *testing.T) {
			tok := openHSM(t, e.Open(t), 0)
			if info := tok.Info(); !strings.HasPrefix(info.Library, e.Name) {
				t.Errorf("library %q", info.Library)
			} else {
				for o, want := range e.how {
					if got := info.Strategies[o]; got != want {
						t.Errorf("%s: %q, want %q", o, got, want)
					}
				}
			}
			var log strings.Builder
			cfg := local.Config{Vault: tok, Log: slog.New(slog.NewTextHandler(&log, nil))}
			s := newService(t, cfg)
			for code, want := range e.sets {
				checkServed(t, s, code, want)
			}
			log.Reset()
			newService(t, cfg) // what has been made is served after a start, and logged
			for code, want := range e.sets {
				if line := logLine(log.String(), "set="+setName(code)); want.level != 0 && (!strings.Contains(line, "level="+want.level.String()) || !strings.Contains(line, want.text)) {
					t.Errorf("%v: logged %q", code, line)
				}
			}
			checkMinimum(t, tok, e.sets)
		})
	}
}

// TestImportOnLongKeys: a card maker's keys of two parts are of use where the token knows
// keys of three parts only.
func TestImportOnLongKeys(t *testing.T) {
	e := hsmtest.Engine{Name: "no keys of two parts", KeyTypes: []uint{p11.CKK_DES2}, Generate: []uint{p11.CKM_DES2_KEY_GEN}}
	s := newService(t, local.Config{Vault: openHSM(t, e.Open(t), 0)})
	importEveryDiversification(t, s)
	importThreeKeys(t, s)
}

func setName(c kdf.Code) string { return "s-" + c.String() }

func logLine(log, with string) string {
	for line := range strings.Lines(log) {
		if strings.Contains(line, with+" ") {
			return line
		}
	}
	return ""
}

func checkServed(t *testing.T, s *local.Service, code kdf.Code, want served) {
	t.Helper()
	kt := hsm.DES3
	switch code {
	case kdf.KDF3, kdf.GPKMC:
		kt = hsm.AES128
	}
	set := local.NewKeySet{Name: tks.KeySetName(setName(code)), Version: 2, Type: kt, KDF: code}
	var missing *hsm.MechanismError
	if err := s.Check(t.Context(), set); errors.As(err, &missing) != (want.level == 0) || err != nil && !strings.Contains(err.Error(), setName(code)) {
		t.Errorf("%v: checked: %v", code, err)
	}
	info, err := s.Create(t.Context(), set)
	switch {
	case want.level == 0:
		if !errors.As(err, &missing) || !strings.Contains(err.Error(), want.text) || !strings.Contains(err.Error(), setName(code)) {
			t.Errorf("%v: %v, want a refusal that names %s and the key set", code, err, want.text)
		}
	case err != nil:
		t.Errorf("%v: %v", code, err)
	case info.Level != want.level.String() || !strings.Contains(info.Why, want.text) || (info.Why == "") != (want.level == hsm.LevelA):
		t.Errorf("%v: level %s: %s, want %v: %s", code, info.Level, info.Why, want.level, want.text)
	default:
		if err := s.TestKeySet(t.Context(), set.Name, 2); err != nil {
			t.Errorf("%v: %v", code, err)
		}
	}
}

// checkMinimum: with the best level demanded, the start is refused and names every key
// set that is below it, with level, reason and remedy.
func checkMinimum(t *testing.T, v hsm.Vault, sets map[kdf.Code]served) {
	t.Helper()
	_, err := local.New(local.Config{Vault: v, Ledger: newLedger(t), MinimumProtection: hsm.LevelA})
	below := false
	for code, want := range sets {
		if want.level == 0 || want.level == hsm.LevelA {
			if err != nil && strings.Contains(err.Error(), setName(code)+" ") {
				t.Errorf("%v is refused: %v", code, err)
			}
			continue
		}
		below = true
		for _, text := range []string{"key set " + setName(code) + " version 02", "level " + want.level.String() + " is in force, A is demanded", want.text, "minimum_protection"} {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%v: %v does not say %q", code, err, text)
			}
		}
	}
	if below != errors.Is(err, local.ErrProtection) {
		t.Errorf("with level A demanded: %v", err)
	}
}
