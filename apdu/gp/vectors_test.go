package gp_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/gp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// vectors returns the vectors of one kind, each decoded into a T.
func vectors[T any](t testing.TB, file, kind string) []T {
	t.Helper()
	b, err := os.ReadFile("../../fixtures/vectors/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Vectors []json.RawMessage }
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	var vs []T
	for _, raw := range doc.Vectors {
		var head struct{ Kind string }
		if err := json.Unmarshal(raw, &head); err != nil {
			t.Fatal(err)
		}
		if head.Kind != kind {
			continue
		}
		var v T
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		vs = append(vs, v)
	}
	if len(vs) == 0 {
		t.Fatalf("%s has no vector of kind %s", file, kind)
	}
	return vs
}

type cplcVector struct {
	Name       string            `json:"name"`
	Response   string            `json:"response"`
	DogtagCUID string            `json:"dogtag_cuid"`
	DogtagMSN  string            `json:"dogtag_msn"`
	Fields     map[string]string `json:"fields"`
}

type putKeyVector struct {
	Name         string   `json:"name"`
	P1           string   `json:"p1"`
	NewKVN       string   `json:"new_kvn"`
	KeyBlocks    []string `json:"key_blocks"`
	KCV          []string `json:"kcv"`
	CommandPlain string   `json:"command_plain"`
	Response     string   `json:"response"`
}

type keyInfoVector struct {
	Name    string `json:"name"`
	Data    string `json:"data"`
	Entries []struct {
		KeyID      string `json:"key_id"`
		KVN        string `json:"kvn"`
		Components []struct {
			Type   string `json:"type"`
			Length int    `json:"length"`
		} `json:"components"`
	} `json:"entries"`
}

func TestCPLCVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors[cplcVector](t, "kdf.json", "cplc") {
		t.Run(v.Name, func(t *testing.T) {
			r, err := apdu.ParseResponse(unhex(t, v.Response))
			if err != nil {
				t.Fatal(err)
			}
			c, err := gp.ParseCPLC(r.Data)
			if err != nil {
				t.Fatal(err)
			}
			if c.CUID().String() != v.DogtagCUID || c.MSN().String() != v.DogtagMSN {
				t.Errorf("CUID %v MSN %v, want %s %s", c.CUID(), c.MSN(), v.DogtagCUID, v.DogtagMSN)
			}
			if !bytes.Equal(c.Encode(), r.Data) {
				t.Errorf("encoded %X, want %X", c.Encode(), r.Data)
			}
			if got, want := cplcText(c), v.Fields; !sameFields(got, want) {
				t.Errorf("fields\n got %v\nwant %v", got, want)
			}
			bare, err := gp.ParseCPLC(r.Data[3:])
			if err != nil || bare != c {
				t.Errorf("without header: %+v, %v", bare, err)
			}
			if c.Simulated() {
				t.Error("a real card counts as simulated")
			}
		})
	}
}

func cplcText(c gp.CPLC) map[string]string {
	b := strings.ToUpper(hex.EncodeToString(c.Bytes()))
	m := map[string]string{}
	pos := 0
	for _, f := range []struct {
		name string
		n    int
	}{
		{"ic_fabricator", 2}, {"ic_type", 2}, {"os_id", 2}, {"os_release_date", 2}, {"os_release_level", 2}, {"ic_fabrication_date", 2},
		{"ic_serial", 4}, {"ic_batch", 2}, {"ic_module_fabricator", 2}, {"ic_module_packaging_date", 2}, {"icc_manufacturer", 2},
		{"ic_embedding_date", 2}, {"ic_pre_personalizer", 2}, {"ic_pre_perso_date", 2}, {"ic_pre_perso_equipment", 4},
		{"ic_personalizer", 2}, {"ic_perso_date", 2}, {"ic_perso_equipment", 4},
	} {
		m[f.name] = b[2*pos : 2*(pos+f.n)]
		pos += f.n
	}
	return m
}

func sameFields(got, want map[string]string) bool {
	if len(got) != len(want) {
		return false
	}
	for k, v := range want {
		if got[k] != v {
			return false
		}
	}
	return true
}

func TestPutKeyVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors[putKeyVector](t, "put_key.json", "put_key") {
		t.Run(v.Name, func(t *testing.T) {
			old, err := gp.ParseKeyVersion(v.P1)
			if err != nil {
				t.Fatal(err)
			}
			version, err := gp.ParseKeyVersion(v.NewKVN)
			if err != nil {
				t.Fatal(err)
			}
			cmd, err := gp.PutKeyCommand(gp.GP211, old, unhex(t, v.NewKVN+strings.Join(v.KeyBlocks, "")))
			if err != nil {
				t.Fatal(err)
			}
			b, err := cmd.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if want := unhex(t, v.CommandPlain); !bytes.Equal(b, want) {
				t.Errorf("\n got %X\nwant %X", b, want)
			}
			r, err := apdu.ParseResponse(unhex(t, v.Response))
			if err != nil {
				t.Fatal(err)
			}
			a, err := gp.ParsePutKeyAnswer(r.Data)
			if err != nil {
				t.Fatal(err)
			}
			var kcvs []gp.KCV
			for _, k := range v.KCV {
				kcvs = append(kcvs, gp.KCV(unhex(t, k)))
			}
			if len(kcvs) != 3 {
				t.Fatalf("vector with %d KCVs", len(kcvs))
			}
			if err := a.Check(version, kcvs); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestKeyInfoVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors[keyInfoVector](t, "put_key.json", "key_information_template") {
		t.Run(v.Name, func(t *testing.T) {
			es, err := gp.ParseKeyInfo(unhex(t, v.Data))
			if err != nil {
				t.Fatal(err)
			}
			if len(es) != len(v.Entries) {
				t.Fatalf("%d entries, want %d", len(es), len(v.Entries))
			}
			for i, want := range v.Entries {
				c := want.Components[0]
				got := fmt.Sprintf("%02X %v %02X %d", es[i].KID, es[i].KVN, uint8(es[i].Type), es[i].Length)
				if got != fmt.Sprintf("%s %s %s %d", want.KeyID, want.KVN, c.Type, c.Length) {
					t.Errorf("entry %d: %s, want %+v", i, got, want)
				}
			}
			if gp.KeyBits(es) != 8*v.Entries[0].Components[0].Length {
				t.Errorf("%d bits", gp.KeyBits(es))
			}
		})
	}
}

func TestRecognitionVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name, Data string
		GPVersion  string `json:"gp_version"`
		SCP        []struct{ SCP, I string }
	}
	for _, v := range vectors[vector](t, "kdf.json", "card_recognition_data") {
		r, err := gp.ParseRecognition(unhex(t, v.Data))
		if err != nil || r.Version != v.GPVersion || len(r.SCPs) != len(v.SCP) {
			t.Errorf("%s: %+v, %v", v.Name, r, err)
			continue
		}
		for i, s := range v.SCP {
			if got := r.SCPs[i]; fmt.Sprintf("%02X", got.Protocol) != s.SCP || fmt.Sprintf("%0*X", len(s.I), got.Option) != s.I {
				t.Errorf("%s: %+v, want %+v", v.Name, got, s)
			}
		}
	}
}

// TestKDDLayoutVectors: the key diversification data of many cards are fields of their
// CPLC.
func TestKDDLayoutVectors(t *testing.T) {
	t.Parallel()
	type vector struct{ Name, KDD, CPLC, Layout string }
	for _, v := range vectors[vector](t, "kdf.json", "kdd_layout") {
		c, err := gp.ParseCPLC(unhex(t, v.CPLC))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("0000%04X%08X%04X", c.FabricationDate, c.ICSerial, c.ICBatch); got != v.KDD {
			t.Errorf("%s: %s is %s, want %s", v.Name, v.Layout, got, v.KDD)
		}
	}
}
