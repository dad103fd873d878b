package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/sim"
	"inkan/tps"
	"inkan/tps/api"
	"inkan/tps/ca"
	"inkan/tps/piv/attest"
	"inkan/tps/token"
)

// addToken stores token number i.
func addToken(n *node, i byte, edit func(*token.Token)) apdu.CUID {
	n.t.Helper()
	tok := token.Token{CUID: apdu.CUID{0x40, 0x90, 9: i}, UserID: "ada", Profile: "userKey", State: token.Active}
	if edit != nil {
		edit(&tok)
	}
	_, err := n.db.CreateToken(n.t.Context(), tok)
	must(n.t, err)
	return tok.CUID
}

// TestTokenPolicy: a card's policy is checked, stored in its canonical text, and taken
// away by the empty one; nothing else of the record can be changed.
func TestTokenPolicy(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	cuid := addToken(n, 1, func(*token.Token) {})
	path := "/tokens/" + cuid.String()
	n.do("PATCH", path, `{"Policy": "RENEW=YES"}`).want(428)
	n.do("PATCH", path, `{"Policy": "RENEW=YES"}`, "If-Match", `"7"`).want(412)
	n.do("PATCH", path, `{}`, "If-Match", `"1"`).want(400, "it is not there")
	n.do("PATCH", path, `{"UserID": "bob"}`, "If-Match", `"1"`).want(400)
	n.do("PATCH", path, `{"Policy": "RENEW=YES;RENEW=NO"}`, "If-Match", `"1"`).want(400, "twice")
	n.do("PATCH", path, `{"Policy": "renew=true"}`, "If-Match", `"1"`).want(200, `"Policy": "RE_ENROLL=YES;RENEW=YES;`)
	rec, err := n.db.Token(t.Context(), cuid)
	must(t, err)
	if p, err := token.ParsePolicy(rec.Policy); err != nil || !p.Renew {
		t.Errorf("policy %q, %v", rec.Policy, err)
	}
	n.do("GET", "/activities?operation=token_modify", "").want(200, `policy: RE_ENROLL=YES;RENEW=YES;`)
	n.do("PATCH", path, `{"Policy": ""}`, "If-Match", `"2"`).want(200)
	rec, err = n.db.Token(t.Context(), cuid)
	must(t, err)
	if rec.Policy != "" {
		t.Errorf("policy %q behind its end", rec.Policy)
	}
}

// TestTokenShape compares with the shape of tps-rest-api.md §3.2.
func TestTokenShape(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	kdd := gp.KDD{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	created := time.UnixMilli(1755769138000)
	cuid := addToken(n, 1, func(t *token.Token) {
		t.KDD, t.KeySet, t.KeyInfo, t.AppletID, t.Created = &kdd, "site", token.KeyInfo{2, 3, 0x70}, "1.4.58768072", created
		t.Policy = "RE_ENROLL=YES;PIN_RESET=NO"
	})
	a := n.do("GET", "/tokens/40900000000000000001", "").want(200)
	stored, err := n.db.Token(t.Context(), cuid)
	must(t, err)
	const want = `{
  "id": "40900000000000000001",
  "TokenID": "40900000000000000001",
  "UserID": "ada",
  "Type": "userKey",
  "Status": {
    "name": {
      "name": "ACTIVE",
      "value": 4,
      "valid": true
    },
    "label": "Active"
  },
  "NextStates": [
%s
  ],
  "AppletID": "1.4.58768072",
  "KeySet": "site",
  "KeyInfo": "020370",
  "KDD": "0102030405060708090A",
  "Policy": "RE_ENROLL=YES;PIN_RESET=NO",
  "CreateTimestamp": 1755769138000,
  "ModifyTimestamp": %d
}
`
	var next []string
	for _, s := range []struct {
		name, label string
		code        int
	}{{"DAMAGED", "Physically damaged", 1}, {"PERM_LOST", "Permanently lost", 2}, {"SUSPENDED", "Suspended (temporarily lost)", 3}, {"TERMINATED", "Terminated", 6}} {
		next = append(next, fmt.Sprintf("    {\n      \"name\": {\n        \"name\": %q,\n        \"value\": %d,\n        \"valid\": true\n      },\n      \"label\": %q\n    }", s.name, s.code, s.label))
	}
	if w := fmt.Sprintf(want, strings.Join(next, ",\n"), stored.Modified.UnixMilli()); a.body != w {
		t.Errorf("got %s\nwant %s", a.body, w)
	}
	if a.header.Get("ETag") != `"1"` || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("header %v", a.header)
	}
	n.do("GET", "/tokens/4090-0000-0000-0000-0001", "").want(200)
}

// TestNextStates: where a suspended card goes back to depends on its certificates.
func TestNextStates(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	cuid := addToken(n, 1, func(t *token.Token) { t.State, t.Reason = token.Suspended, token.OnHold })
	has := func(state string) bool {
		tok := decode[api.Token](n.do("GET", "/tokens/"+cuid.String(), "").want(200))
		return tok.Reason == "onHold" && slices.ContainsFunc(tok.NextStates, func(s api.Status) bool { return s.Name.Name == state })
	}
	if !has("FORMATTED") || has("ACTIVE") {
		t.Error("without certificates")
	}
	addCertificate(n, cuid, "1A", token.CertOnHold)
	if has("FORMATTED") || !has("ACTIVE") {
		t.Error("with a certificate")
	}
	strange := addToken(n, 2, func(t *token.Token) { t.State = "LOST" })
	n.do("GET", "/tokens/"+strange.String(), "").want(200, `"value": -1`, `"valid": false`)
}

func TestTokenList(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for i := range byte(25) {
		addToken(n, i, func(t *token.Token) {
			if i%5 == 0 {
				t.UserID, t.Profile, t.State = "bob", "soKey", token.Formatted
			}
		})
	}
	ids := func(query string) (out []string, l api.List[api.Token]) {
		l = decode[api.List[api.Token]](n.do("GET", "/tokens"+query, "").want(200))
		for _, tok := range l.Entries {
			out = append(out, tok.ID[18:])
		}
		return out, l
	}
	for query, want := range map[string]struct {
		rows, total int // total -1: not told
		first, next string
	}{
		"":                                   {20, 25, "00", "13"},
		"?size=7":                            {7, 25, "00", "06"},
		"?pageSize=7":                        {7, 25, "00", "06"},
		"?size=7&start=21":                   {4, 25, "15", ""},
		"?start=25":                          {0, 25, "", ""},
		"?start=99":                          {0, 25, "", ""},
		"?size=25":                           {25, 25, "00", ""},
		"?size=5&after=40900000000000000013": {5, -1, "14", ""},
		"?size=4&after=40900000000000000013": {4, -1, "14", "17"},
		"?userID=bob":                        {5, 5, "00", ""},
		"?filter=BO":                         {5, 5, "00", ""},
		"?type=soKey&size=2":                 {2, 5, "00", "05"},
		"?type=soKey&size=2&start=2":         {2, 5, "0A", "0F"},
		"?status=formatted":                  {5, 5, "00", ""},
		"?status=UNINITIALIZED":              {5, 5, "00", ""},
		"?status=TEMP_LOST":                  {0, 0, "", ""},
		"?tokenID=40900000000000000003":      {1, 1, "03", ""},
		"?userID=nobody":                     {0, 0, "", ""},
	} {
		got, l := ids(query)
		first := ""
		if len(got) > 0 {
			first = got[0]
		}
		total := -1
		if l.Total != nil {
			total = *l.Total
		}
		if len(got) != want.rows || first != want.first || total != want.total || !strings.HasSuffix(l.Next, want.next) || (l.Next == "") != (want.next == "") {
			t.Errorf("%q: %d rows from %q of %d, next %q; want %+v", query, len(got), first, total, l.Next, want)
		}
		if !slices.IsSorted(got) {
			t.Errorf("%q: %q is not sorted", query, got)
		}
	}
	var all []string // every page by after gives every row once
	for after := ""; ; {
		got, l := ids("?size=4&after=" + after)
		all = append(all, got...)
		if after = l.Next; after == "" {
			break
		}
	}
	if len(all) != 25 || len(slices.Compact(slices.Clone(all))) != 25 {
		t.Errorf("paging gave %q", all)
	}
}

// TestManyRecords goes over the store's largest page.
func TestManyRecords(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for i := range 1003 {
		must(t, n.db.AddActivity(t.Context(), token.Activity{UserID: "ada", Operation: "format", Message: fmt.Sprint(i), Time: time.Unix(int64(i), 0)}))
	}
	l := decode[api.List[api.Activity]](n.do("GET", "/activities?size=5&start=1000", "").want(200))
	if *l.Total != 1003 || len(l.Entries) != 3 || l.Next != "" || l.Entries[2].Message != "0" {
		t.Errorf("got %+v", l)
	}
}

func addCertificate(n *node, cuid apdu.CUID, serial string, state token.CertState) token.Certificate {
	n.t.Helper()
	c, err := n.db.CreateCertificate(n.t.Context(), token.Certificate{CUID: cuid, UserID: "ada", KeyType: "signing", Profile: "userKey", State: state,
		Serial: serial, Subject: "UID=ada,CN=Ada", CA: "embedded", Origin: cuid, NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(2e9, 0)})
	must(n.t, err)
	return c
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	cuid := addToken(n, 1, nil)
	c := addCertificate(n, cuid, "1A2B", token.CertActive)
	addCertificate(n, cuid, "FF", token.CertRevoked)
	got := decode[api.Certificate](n.do("GET", "/certs/"+c.ID, "").want(200))
	want := api.Certificate{ID: c.ID, SerialNumber: "0x1a2b", Subject: "UID=ada,CN=Ada", UserID: "ada", TokenID: cuid.String(), Origin: cuid.String(),
		Type: "userKey", KeyType: "signing", Status: "active", Authority: "embedded", ValidNotBefore: 1e12, ValidNotAfter: 2e12,
		CreateTime: got.CreateTime, ModifyTime: got.ModifyTime}
	if got != want || got.CreateTime == 0 {
		t.Errorf("got %+v", got)
	}
	for query, rows := range map[string]int{"": 2, "?serial=0x1a2B": 1, "?serial=001A2B": 1, "?serial=1A2": 0, "?status=REVOKED": 1, "?status=active&userID=ada": 1,
		"?tokenID=" + cuid.String(): 2, "?filter=4090": 2, "?userID=bob": 0} {
		if l := decode[api.List[api.Certificate]](n.do("GET", "/certs"+query, "").want(200)); len(l.Entries) != rows || *l.Total != rows {
			t.Errorf("%s: %d rows", query, len(l.Entries))
		}
	}
	n.do("GET", "/certs?status=revoked", "").want(200, `"Reason": "unspecified"`)
}

// TestCertificateAttestation shows the evidence of a key, and what it says.
func TestCertificateAttestation(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	card, err := sim.New(sim.Config{Model: "yubikey-5.4", Serial: 0xF0000001})
	must(t, err)
	defer card.Close()
	ctx, d := t.Context(), apdu.NewConn(card)
	_, err = piv.Select(ctx, d)
	must(t, err)
	must(t, piv.Authenticate(ctx, d, piv.TripleDES, secret.New(piv.DefaultManagementKey())))
	_, err = piv.Generate(ctx, d, piv.Signature, piv.P256, piv.Policy{})
	must(t, err)
	e, err := attest.Read(ctx, d, piv.Signature)
	must(t, err)
	c := addCertificate(n, addToken(n, 1, nil), "1A2B", token.CertActive)
	c.Evidence = string(e.PEM())
	c, err = n.db.ReplaceCertificate(ctx, c)
	must(t, err)
	got := decode[api.Certificate](n.do("GET", "/certs/"+c.ID, "").want(200)).Attestation
	want := api.Attestation{Slot: "9C", SerialNumber: 0xF0000001, Firmware: "5.4.3", FormFactor: "usb-a", PINPolicy: "always", TouchPolicy: "never",
		Attester: "CN=Inkan Software Card PIV Attestation", Maker: "CN=Inkan Software Card Attestation Root 4026531841", Certificates: c.Evidence}
	if got == nil || *got != want {
		t.Errorf("got %+v", got)
	}
	c.Evidence = "what another version wrote"
	_, err = n.db.ReplaceCertificate(ctx, c)
	must(t, err)
	n.do("GET", "/certs?serial=1A2B", "").want(200, `"Certificates": "what another version wrote"`)
}

func TestChangeCertificate(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := addCertificate(n, addToken(n, 1, nil), "1A2B", token.CertActive)
	for body, want := range map[string]tps.CertificateChange{
		`{"action": "revoke"}`:                            {Action: tps.ActionRevoke},
		`{"action": "revoke", "reason": "keyCompromise"}`: {Action: tps.ActionRevoke, Reason: ca.ReasonKeyCompromise},
		`{"action": "hold"}`:                              {Action: tps.ActionHold},
		`{"action": "unhold"}`:                            {Action: tps.ActionUnhold},
	} {
		want.ID, want.By, want.Client = c.ID, "local:root", "192.0.2.9"
		n.engine.asked = nil
		n.do("POST", "/certs/"+c.ID+"/state", body).want(200, `"SerialNumber": "0x1a2b"`)
		if len(n.engine.asked) != 1 || n.engine.asked[0] != want {
			t.Errorf("%s: asked %+v", body, n.engine.asked)
		}
	}
	for status, err := range map[int]error{409: tps.ErrCertificateState, 503: ca.ErrUnavailable, 404: token.ErrNotFound, 502: ca.ErrNotIssuer} {
		n.engine.err = fmt.Errorf("changing: %w", err)
		n.do("POST", "/certs/"+c.ID+"/state", `{"action": "hold"}`).want(status)
	}
}

func TestSetTokenState(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	cuid := addToken(n, 1, nil)
	addCertificate(n, cuid, "1A2B", token.CertRevoked)
	for name, want := range map[string]token.State{"DAMAGED": token.Damaged, "perm_lost": token.PermLost, "TEMP_LOST": token.Suspended} {
		n.engine.state = nil
		got := decode[api.TokenState](n.do("POST", "/tokens/"+cuid.String()+"?status="+name, "").want(200))
		if got.Status.Name.Name != string(want) || len(got.Certificates) != 1 || got.Certificates[0].SerialNumber != "0x1a2b" {
			t.Errorf("%s: %+v", name, got)
		}
		if ch := (tps.StateChange{CUID: cuid, State: want, By: "local:root", Client: "192.0.2.9"}); len(n.engine.state) != 1 || n.engine.state[0] != ch {
			t.Errorf("%s: asked %+v", name, n.engine.state)
		}
	}
	for status, err := range map[int]error{400: tps.ErrTokenState, 409: token.ErrLocked, 503: ca.ErrUnavailable, 404: token.ErrNotFound} {
		n.engine.err = fmt.Errorf("changing: %w", err)
		n.do("POST", "/tokens/"+cuid.String()+"?status=DAMAGED", "").want(status)
	}
}

func TestActivities(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	cuid := apdu.CUID{0x40}
	must(t, n.db.AddActivity(t.Context(), token.Activity{ID: "a", CUID: cuid, UserID: "ada", IP: "192.0.2.1", Operation: "enrollment", Success: true,
		Message: "done", Profile: "userKey", Reference: "r", Time: time.UnixMilli(5)}))
	must(t, n.db.AddActivity(t.Context(), token.Activity{ID: "b", Operation: "format", Message: "refused", Time: time.UnixMilli(6)}))
	got := decode[api.Activity](n.do("GET", "/activities/a", "").want(200))
	if want := (api.Activity{ID: "a", TokenID: cuid.String(), UserID: "ada", IP: "192.0.2.1", Operation: "enrollment", Result: "success", Message: "done",
		Type: "userKey", Reference: "r", Date: 5}); got != want {
		t.Errorf("got %+v", got)
	}
	l := decode[api.List[api.Activity]](n.do("GET", "/activities?size=1", "").want(200))
	if *l.Total != 2 || l.Entries[0].ID != "b" || l.Entries[0].Result != "failure" || l.Entries[0].TokenID != "" || l.Next != "b" {
		t.Errorf("got %+v", l)
	}
	for query, rows := range map[string]int{"?userID=ada": 1, "?tokenID=" + cuid.String(): 1, "?filter=ADA": 1, "?userID=bob": 0} {
		if l := decode[api.List[api.Activity]](n.do("GET", "/activities"+query, "").want(200)); len(l.Entries) != rows {
			t.Errorf("%s: %d rows", query, len(l.Entries))
		}
	}
}

// TestOperations: the verdict on the card of an unfinished operation.
func TestOperations(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		steps []token.Entry
		ended bool
		want  api.CardState
	}{
		"nothing yet":     {nil, false, api.CardUnchanged},
		"in the middle":   {[]token.Entry{{Step: "prepare-applet", Confirmed: true}, {Step: "generate-key signing"}}, false, api.CardCut},
		"first step":      {[]token.Entry{{Step: "change-keys"}}, false, api.CardCut},
		"records missing": {[]token.Entry{{Step: "finish-card", Confirmed: true}, {Step: "record-token"}}, false, api.CardDone},
		"revoking":        {[]token.Entry{{Step: "prepare-applet", Confirmed: true}, {Step: "revoke-certificates"}}, false, api.CardDone},
		"over and done":   {[]token.Entry{{Step: "record-token"}}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			cuid := addToken(n, 1, nil)
			j, err := n.db.BeginJournal(t.Context(), token.Journal{ID: token.NewID(), CUID: cuid, Operation: "enroll", Profile: "userKey", UserID: "ada",
				Client: "192.0.2.1", Started: time.UnixMilli(7)})
			must(t, err)
			for i := range tt.steps {
				tt.steps[i].Data = map[string]string{"spki": "inner facts"}
			}
			if j.Entries = tt.steps; tt.ended {
				j.Ended, j.Result = time.UnixMilli(8), "done"
			}
			_, err = n.db.ReplaceJournal(t.Context(), j)
			must(t, err)
			a := n.do("GET", "/tokens/"+cuid.String()+"/operations", "").want(200)
			l := decode[api.List[api.Operation]](a)
			if len(l.Entries) != 1 || l.Entries[0].Card != tt.want || len(l.Entries[0].Steps) != len(tt.steps) || l.Entries[0].Started != 7 {
				t.Errorf("got %+v", l.Entries)
			}
			if strings.Contains(a.body, "inner facts") {
				t.Error("facts of a step are shown")
			}
			for query, want := range map[string]bool{"true": !tt.ended, "false": tt.ended} {
				l := decode[api.List[api.Operation]](n.do("GET", "/tokens/"+cuid.String()+"/operations?open="+query, "").want(200))
				if (len(l.Entries) == 1) != want {
					t.Errorf("open=%s: %d rows", query, len(l.Entries))
				}
			}
			n.do("GET", "/tokens/"+cuid.String()+"/operations?open=perhaps", "").want(400)
			if one := decode[api.Operation](n.do("GET", "/operations/"+j.ID, "").want(200)); one.ID != j.ID || one.Card != tt.want || one.TokenID != cuid.String() {
				t.Errorf("got %+v", one)
			}
			for query, rows := range map[string]int{"": 1, "?userID=ada": 1, "?userID=bob": 0, "?tokenID=40900000000000000009": 0, "?tokenID=" + cuid.String(): 1,
				fmt.Sprintf("?open=%t", tt.ended): 0} {
				if l := decode[api.List[api.Operation]](n.do("GET", "/operations"+query, "").want(200)); len(l.Entries) != rows {
					t.Errorf("%q: %d rows", query, len(l.Entries))
				}
			}
		})
	}
}

// TestDEF49: taking a certificate off hold is recorded as cert_restoration, and
// found under the name that Dogtag's documentation gives it too.
func TestDEF49(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for i, operation := range []string{"cert_restoration", "cert_revocation"} {
		must(t, n.db.AddActivity(t.Context(), token.Activity{ID: operation, Operation: operation, Time: time.UnixMilli(int64(i))}))
	}
	for name, want := range map[string]string{"cert_restoration": "cert_restoration", "cert_unrevocation": "cert_restoration",
		"CERT_UNREVOCATION": "cert_restoration", "cert_revocation": "cert_revocation"} {
		l := decode[api.List[api.Activity]](n.do("GET", "/activities?operation="+name, "").want(200))
		if len(l.Entries) != 1 || *l.Total != 1 || l.Entries[0].Operation != want {
			t.Errorf("%s finds %+v", name, l.Entries)
		}
	}
}
