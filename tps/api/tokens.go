package api

import (
	"encoding/hex"
	"net/http"
	"strings"

	"inkan/apdu"
	"inkan/tps"
	"inkan/tps/token"
)

// Token is the record of a card: Dogtag's TokenData (tps-rest-api.md §3.2) with
// KeySet, KDD and Reason besides.
type Token struct {
	ID              string   `json:"id"`
	TokenID         string   `json:"TokenID"` // CUID, 20 upper-case hexadecimal digits
	UserID          string   `json:"UserID,omitempty"`
	Type            string   `json:"Type,omitempty"` // profile
	Status          Status   `json:"Status"`
	NextStates      []Status `json:"NextStates"`
	Reason          string   `json:"Reason,omitempty"`
	AppletID        string   `json:"AppletID,omitempty"`
	KeySet          string   `json:"KeySet,omitempty"`
	KeyInfo         string   `json:"KeyInfo,omitempty"` // version, protocol [, i], hexadecimal
	KDD             string   `json:"KDD,omitempty"`
	AppletKeys      string   `json:"AppletKeys,omitempty"` // of the applet itself, SET:VERSION:ALGORITHM
	Policy          string   `json:"Policy,omitempty"`
	CreateTimestamp Millis   `json:"CreateTimestamp"`
	ModifyTimestamp Millis   `json:"ModifyTimestamp"`
}

// Status is a token's state.
type Status struct {
	Name  StatusName `json:"name"`
	Label string     `json:"label"`
}

// StatusName is a state by name and by Dogtag's number.
type StatusName struct {
	Name  string `json:"name"`
	Value int    `json:"value"`
	Valid bool   `json:"valid"`
}

// codes are the numbers of tps-operations.md §16.1.
var codes = map[token.State]int{
	token.Formatted: 0, token.Damaged: 1, token.PermLost: 2, token.Suspended: 3, token.Active: 4, token.Terminated: 6, token.Unformatted: 7,
}

func statusOf(s token.State) Status {
	code, ok := codes[s]
	if !ok {
		code = -1
	}
	return Status{Name: StatusName{Name: string(s), Value: code, Valid: ok}, Label: s.Label()}
}

// oldStates are names that Dogtag still accepts.
var oldStates = map[string]token.State{"UNINITIALIZED": token.Formatted, "TEMP_LOST": token.Suspended}

func (c *call) state() (token.State, error) {
	s := strings.ToUpper(c.param("status"))
	if s == "" {
		return "", nil
	}
	if old, ok := oldStates[s]; ok {
		return old, nil
	}
	state, err := token.ParseState(s)
	if err != nil {
		return "", badRequest("%v", err)
	}
	return state, nil
}

// filter reads the parameters that the lists share.
func (c *call) filter() (token.Filter, error) {
	f := token.Filter{Text: c.param("filter"), UserID: token.UserID(c.param("userID"))}
	id := c.param("tokenID")
	if id == "" {
		return f, nil
	}
	cuid, err := parseCUID(id)
	f.CUID = &cuid
	return f, err
}

func parseCUID(s string) (apdu.CUID, error) {
	cuid, err := apdu.ParseCUID(s)
	if err != nil {
		return cuid, badRequest("%q is not a CUID, 20 hexadecimal digits", s)
	}
	return cuid, nil
}

func (a *api) listTokens(c *call) (reply, error) {
	p, err := c.page()
	if err != nil {
		return reply{}, err
	}
	f, err := c.filter()
	if err != nil {
		return reply{}, err
	}
	if f.State, err = c.state(); err != nil {
		return reply{}, err
	}
	s := source[token.Token]{
		read: func(after string, limit int) ([]token.Token, error) {
			f.After, f.Limit = after, limit
			return a.Tokens.Tokens(c.Context(), f)
		},
		id: func(t token.Token) string { return t.CUID.String() },
	}
	if kind := c.param("type"); kind != "" {
		s.keep = func(t token.Token) bool { return string(t.Profile) == kind }
	}
	return convert(p, s, func(t token.Token) (Token, error) { return a.describeToken(c, t) })
}

// token finds the token of the path.
func (a *api) token(c *call) (token.Token, error) {
	cuid, err := parseCUID(c.PathValue("id"))
	if err != nil {
		return token.Token{}, err
	}
	t, err := a.Tokens.Token(c.Context(), cuid)
	return t, missing(err, "there is no token %s", cuid)
}

func (a *api) showToken(c *call) (reply, error) {
	t, err := a.token(c)
	if err != nil {
		return reply{}, err
	}
	out, err := a.describeToken(c, t)
	return reply{body: out, revision: t.Revision}, err
}

// TokenState is the answer to a change of state: the token, and the certificates
// that were to be changed with it. Pending of one says that the authority did not
// answer and is asked again.
type TokenState struct {
	Token
	Certificates []Certificate `json:"Certificates"`
}

// setTokenState is tps-operations.md §12.
func (a *api) setTokenState(c *call) (reply, error) {
	cuid, err := parseCUID(c.PathValue("id"))
	if err != nil {
		return reply{}, err
	}
	state, err := c.state()
	if err != nil {
		return reply{}, err
	}
	if state == "" {
		return reply{}, badRequest("the parameter status has to name the state")
	}
	t, certs, err := a.Revoker.SetTokenState(c.Context(), tps.StateChange{CUID: cuid, State: state, By: token.UserID(c.who.Name), Client: c.who.Address})
	if err != nil {
		return reply{}, missing(err, "there is no token %s", cuid)
	}
	out := TokenState{Certificates: []Certificate{}}
	for _, r := range certs {
		d, err := describeCertificate(r)
		if err != nil {
			return reply{}, err
		}
		out.Certificates = append(out.Certificates, d)
	}
	out.Token, err = a.describeToken(c, t)
	return reply{body: out, revision: t.Revision}, err
}

func (a *api) describeToken(c *call, t token.Token) (Token, error) {
	out := Token{
		ID: t.CUID.String(), TokenID: t.CUID.String(), UserID: string(t.UserID), Type: string(t.Profile), Status: statusOf(t.State),
		NextStates: []Status{}, Reason: string(t.Reason), AppletID: t.AppletID, KeySet: string(t.KeySet),
		KeyInfo: strings.ToUpper(hex.EncodeToString(t.KeyInfo)), Policy: t.Policy,
		AppletKeys: t.AppletKeys.String(), CreateTimestamp: millis(t.Created), ModifyTimestamp: millis(t.Modified),
	}
	if t.KDD != nil {
		out.KDD = t.KDD.String()
	}
	certificates := 0
	if t.State == token.Suspended { // the only state whose choices depend on them
		certs, err := a.Certificates.CertificatesOf(c.Context(), t.CUID)
		if err != nil {
			return out, err
		}
		certificates = len(certs)
	}
	for _, s := range t.State.OperatorChoices(certificates) {
		out.NextStates = append(out.NextStates, statusOf(s))
	}
	return out, nil
}

// Keying is an entry of the key service's ledger: a card that was given keys while
// it had ones that everybody knows.
type Keying struct {
	KDD         string `json:"KDD"`
	TokenID     string `json:"TokenID"` // as claimed at that time
	FromKeySet  string `json:"FromKeySet"`
	FromVersion string `json:"FromVersion"`
	KeySet      string `json:"KeySet"`
	Version     string `json:"Version"`
	Time        Millis `json:"Time"`
	Completed   bool   `json:"Completed"` // the card has proved itself under the new keys
}

func (a *api) showKeying(c *call) (reply, error) {
	t, err := a.token(c)
	if err != nil {
		return reply{}, err
	}
	if t.KDD != nil {
		k, ok, err := a.Keyings.Keying(c.Context(), *t.KDD)
		if err != nil || ok {
			return reply{body: k}, err
		}
	}
	return reply{}, refuse(http.StatusNotFound, "card %s has not been keyed from a published key set, or was released", t.CUID)
}
