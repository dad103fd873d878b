package gp_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/apdutest"
	"inkan/apdu/gp"
)

func TestGetStatus(t *testing.T) {
	t.Parallel()
	const (
		isd  = "E313 4F08A000000151000000 9F700101 C5039EFE80"
		app  = "E322 4F07627601FF000000 9F700107 C50100 C406627601FF0000 CC08A000000003000000"
		file = "E31D 4F06627601FF0000 9F700101 CE020100 8407627601FF000000 CF00 9900"
	)
	for name, tc := range map[string]struct {
		scope  gp.Scope
		filter apdu.AID
		script []string
		want   string
		err    error
	}{
		"issuer domain": {gp.ScopeIssuerDomain, apdu.AID{}, []string{"80F28002024F0000", isd + "9000"},
			"A000000151000000 01 9EFE80 file= domain= v= []", nil},
		"application": {gp.ScopeApplications, apdu.AID{}, []string{"80F24002024F0000", app + "9000"},
			"627601FF000000 07 000000 file=627601FF0000 domain=A000000003000000 v= []", nil},
		"file with modules": {gp.ScopeModules, apdu.AID{}, []string{"80F21002024F0000", file + "9000"},
			"627601FF0000 01 000000 file= domain= v=0100 [627601FF000000]", nil},
		"filter":  {gp.ScopeLoadFiles, pkg, []string{"80F22002084F06627601FF000000", "6A88"}, "", nil},
		"nothing": {gp.ScopeLoadFiles, apdu.AID{}, []string{"80F22002024F0000", "6A88"}, "", nil},
		"pages": {gp.ScopeApplications, apdu.AID{}, []string{"80F24002024F0000", app + "6310", "80F24003024F0000", isd + "6310", "80F24003024F0000", isd + "9000"},
			"627601FF000000 07 000000 file=627601FF0000 domain=A000000003000000 v= []; A000000151000000 01 9EFE80 file= domain= v= []; A000000151000000 01 9EFE80 file= domain= v= []", nil},
		"old format": {gp.ScopeApplications, apdu.AID{}, []string{"80F24002024F0000", "6A86", "80F24000024F0000", "07627601FF0000000704 07627601FF0000018700 9000"},
			"627601FF000000 07 040000 file= domain= v= []; 627601FF000001 87 000000 file= domain= v= []", nil},
		"old format, modules": {gp.ScopeModules, apdu.AID{}, []string{"80F21002024F0000", "6A86", "80F21000024F0000", "06627601FF00000100 01 07627601FF000000 9000"},
			"627601FF0000 01 000000 file= domain= v= [627601FF000000]", nil},
		"not authenticated": {gp.ScopeLoadFiles, apdu.AID{}, []string{"80F22002024F0000", "6982"}, "", apdu.SWSecurityStatus},
		"no class at all":   {gp.ScopeLoadFiles, apdu.AID{}, []string{"80F22002024F0000", "6A86", "80F22000024F0000", "6A86"}, "", apdu.SWIncorrectP1P2},
	} {
		t.Run(name, func(t *testing.T) {
			es, err := gp.GetStatus(t.Context(), apdu.NewConn(apdutest.NewScript(t, tc.script...)), tc.scope, tc.filter)
			if !errors.Is(err, tc.err) {
				t.Fatalf("%v, want %v", err, tc.err)
			}
			var got []string
			for _, e := range es {
				got = append(got, fmt.Sprintf("%v %v %06X file=%v domain=%v v=%X %v", e.AID, e.LifeCycle, uint32(e.Privileges), e.LoadFile, e.Domain, e.Version, e.Modules))
			}
			if strings.Join(got, "; ") != tc.want {
				t.Errorf("\n got %s\nwant %s", strings.Join(got, "; "), tc.want)
			}
		})
	}
}

func TestGetStatusMalformed(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"cut entry":        "E3134F08A0",
		"cut object":       "E3034F08A0",
		"AID too long":     "E3134F11" + strings.Repeat("A0", 17),
		"privileges":       "E306C50401020304",
		"module too long":  "E3138411" + strings.Repeat("A0", 17),
		"domain too long":  "E313CC11" + strings.Repeat("A0", 17),
		"load file's name": "E313C411" + strings.Repeat("A0", 17),
	} {
		conn := apdu.NewConn(apdutest.NewScript(t, "80F24002024F0000", answer+"9000"))
		if es, err := gp.GetStatus(t.Context(), conn, gp.ScopeApplications, apdu.AID{}); err == nil {
			t.Errorf("%s: %+v, want an error", name, es)
		}
	}
	for name, answer := range map[string]string{
		"cut AID": "07627601FF", "cut state": "07627601FF00000007", "cut count": "07627601FF0000000700", "cut module": "07627601FF000000070001076276",
	} {
		conn := apdu.NewConn(apdutest.NewScript(t, "80F21002024F0000", "6A86", "80F21000024F0000", answer+"9000"))
		if es, err := gp.GetStatus(t.Context(), conn, gp.ScopeModules, apdu.AID{}); err == nil {
			t.Errorf("old format, %s: %+v, want an error", name, es)
		}
	}
}

// endless is a card whose registry never ends.
type endless struct{ page []byte }

func (e endless) Do(context.Context, apdu.Command) (apdu.Response, error) {
	return apdu.Response{Data: e.page, SW: apdu.SWMoreData}, nil
}

func TestGetStatusBounds(t *testing.T) {
	t.Parallel()
	for _, page := range [][]byte{nil, make([]byte, 256), make([]byte, 65537)} {
		if _, err := gp.GetStatus(t.Context(), endless{page}, gp.ScopeApplications, apdu.AID{}); err == nil {
			t.Errorf("pages of %d bytes without end: no error", len(page))
		}
	}
	gone := apdu.NewConn(apdutest.Cut(nil, 1, apdutest.Before))
	if _, err := gp.GetStatus(t.Context(), gone, gp.ScopeApplications, apdu.AID{}); !errors.Is(err, apdu.ErrCardRemoved) {
		t.Errorf("card removed: %v", err)
	}
}

// FuzzAnswersNoPanic gives any bytes to every parser of a card's answer.
func FuzzAnswersNoPanic(f *testing.F) {
	for _, s := range []string{recognition("0370"), "E012C00401FF8010C00402FF8010C00403FF8010", "E3134F08A0000001510000009F700101C5039EFE80", "6F108408A000000003000000A5049F6501FF", "E00EC00C0130FF8800200218080201" + "00"} {
		f.Add(unhex(f, s), byte(gp.ScopeModules))
	}
	for _, v := range vectors[cplcVector](f, "kdf.json", "cplc") {
		f.Add(unhex(f, v.Response[:len(v.Response)-4]), byte(0))
	}
	for _, v := range vectors[putKeyVector](f, "put_key.json", "put_key") {
		f.Add(unhex(f, v.Response[:len(v.Response)-4]), byte(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, scope byte) {
		if c, err := gp.ParseCPLC(b); err == nil && len(c.Bytes()) != 42 {
			t.Errorf("CPLC of %d bytes", len(c.Bytes()))
		}
		_, _ = gp.ParseRecognition(b)
		_, _ = gp.ParseFCI(b)
		if es, err := gp.ParseKeyInfo(b); err == nil {
			_, _ = gp.KeyVersions(es), gp.KeyBits(es)
		}
		if a, err := gp.ParsePutKeyAnswer(b); err == nil {
			_ = a.Check(1, []gp.KCV{{}, {}, {}})
		}
		first := true
		answer := doerFunc(func(cmd apdu.Command) apdu.Response {
			if first && scope&1 != 0 {
				first = false
				return apdu.Response{SW: apdu.SWIncorrectP1P2}
			}
			return apdu.Response{Data: b, SW: apdu.SWSuccess}
		})
		_, _ = gp.GetStatus(context.Background(), answer, gp.Scope(scope&0xFE), apdu.AID{})
	})
}

// doerFunc is a function as a Doer.
type doerFunc func(apdu.Command) apdu.Response

func (f doerFunc) Do(_ context.Context, cmd apdu.Command) (apdu.Response, error) { return f(cmd), nil }
