package api

import (
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"strconv"
	"strings"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/realm"
)

// RealmKey is a key that signs tokens of the node. Enabled and Active are the two
// switches of Keycloak's key providers that State comes to.
type RealmKey struct {
	ID           string `json:"id"`
	Name         string `json:"Name"`
	KID          string `json:"KID"`
	Use          string `json:"Use"` // sig, ticket, audit
	Algorithm    string `json:"Algorithm"`
	Provider     string `json:"Provider"`
	Priority     int64  `json:"Priority"`
	State        string `json:"State"` // pending, active, passive, disabled, deleted
	Enabled      bool   `json:"Enabled"`
	Active       bool   `json:"Active"`
	Signing      bool   `json:"Signing"` // it is the one that signs with its algorithm
	Certificates string `json:"Certificates,omitempty"`
	Predecessor  string `json:"Predecessor,omitempty"`
	Created      Millis `json:"Created"`
	ActivateAt   Millis `json:"ActivateAt,omitempty"`
	PassiveAt    Millis `json:"PassiveAt,omitempty"`
	DisabledAt   Millis `json:"DisabledAt,omitempty"`
	DeletedAt    Millis `json:"DeletedAt,omitempty"`
	Compromised  Millis `json:"Compromised,omitempty"`
	PrivateHalf  bool   `json:"PrivateHalf"`    // it is there
	Node         string `json:"Node,omitempty"` // whose key file has it; absent: all nodes reach it
}

// NewRealmKey is the body of POST realm/keys but for its secrets, which
// [EncodeSecret] adds: "material" (PEM, or base64 of a key store), "storePassword",
// "keyPassword".
type NewRealmKey struct {
	Name         string `json:"Name,omitempty"`
	Use          string `json:"Use,omitempty"` // sig (default), ticket, audit
	Provider     string `json:"Provider"`      // generated, pem, java-keystore, pkcs11
	Algorithm    string `json:"Algorithm,omitempty"`
	Bits         int    `json:"Bits,omitempty"`
	Priority     int64  `json:"Priority,omitempty"`
	Passive      bool   `json:"Passive,omitempty"`
	Certificates string `json:"Certificates,omitempty"` // PEM, that of the key first
	Alias        string `json:"Alias,omitempty"`
	Label        string `json:"Label,omitempty"`
	AllowExpired bool   `json:"AllowExpired,omitempty"`
}

// RealmKeyChange is the body of PATCH realm/keys/{id}: one of its fields.
type RealmKeyChange struct {
	State        *string `json:"State,omitempty"` // active, passive, disabled
	Priority     *int64  `json:"Priority,omitempty"`
	Certificates *string `json:"Certificates,omitempty"` // PEM
}

// RealmStep is what the rotation policy does and when.
type RealmStep struct {
	At     Millis `json:"At"`
	Action string `json:"Action"` // create, activate, disable, delete
	Key    string `json:"Key"`    // name; of create that of the key before it
	KID    string `json:"KID,omitempty"`
}

// RealmRotation is the answer of POST realm/rotate.
type RealmRotation struct {
	Made   RealmKey `json:"Made"`
	Before RealmKey `json:"Before"`
}

// RealmCompromise is the answer of POST realm/keys/{id}/compromised.
type RealmCompromise struct {
	Gone      RealmKey    `json:"Gone"`
	Made      *RealmKey   `json:"Made,omitempty"` // absent where it was given up before
	NotBefore Millis      `json:"NotBefore"`
	Clients   []RealmPush `json:"Clients"`
}

// RealmPush is what telling one client came to.
type RealmPush struct {
	Client string `json:"Client"`
	Node   bool   `json:"Node,omitempty"` // it is another node of the array
	URL    string `json:"URL,omitempty"`
	Result string `json:"Result"` // ok, failed, pull only
	Tries  int    `json:"Tries"`
	Error  string `json:"Error,omitempty"`
}

// RealmStatus says which keys sign.
type RealmStatus struct {
	Issuer    string            `json:"Issuer"`
	Signing   []RealmKey        `json:"Signing"`
	States    map[string]int    `json:"States"`              // how many keys are in each
	NotBefore map[string]Millis `json:"NotBefore,omitempty"` // by use
	Next      *RealmStep        `json:"Next,omitempty"`      // absent: nothing within a year
	Nodes     []RealmNode       `json:"Nodes"`
	Converged bool              `json:"Converged"` // every node that is there signs with what it should
}

// RealmNode is what one node signs with.
type RealmNode struct {
	Node    string            `json:"Node"`
	State   string            `json:"State"`   // converged, converging, failing, silent
	Signing map[string]string `json:"Signing"` // kid by use and algorithm
	Want    map[string]string `json:"Want"`    // what it should be
	Problem string            `json:"Problem,omitempty"`
	Seen    Millis            `json:"Seen"`
}

func describeRealmKey(k realm.Key, all []realm.Key) RealmKey {
	out := RealmKey{
		ID: string(k.ID), Name: k.Name, KID: k.KID, Use: string(k.Use), Algorithm: string(k.Algorithm), Provider: string(k.Provider), Priority: k.Priority,
		State: string(k.State), Enabled: k.State != realm.Disabled && k.State != realm.Deleted, Active: k.State == realm.Active,
		Signing: realm.Signs(all, k), Predecessor: string(k.Predecessor), Created: millis(k.Created), ActivateAt: millis(k.ActivateAt),
		PassiveAt: millis(k.PassiveAt), DisabledAt: millis(k.DisabledAt), DeletedAt: millis(k.DeletedAt), Compromised: millis(k.Compromised),
		PrivateHalf: k.Material != "", Node: k.Node,
	}
	for _, der := range k.Chain {
		out.Certificates += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return out
}

// describeKey reads what is needed to say whether a key signs.
func (a *api) describeKey(c *call, k realm.Key, err error) (RealmKey, error) {
	if err != nil {
		return RealmKey{}, err
	}
	all, err := a.Realm.Keys(c.Context())
	return describeRealmKey(k, all), err
}

func (a *api) listRealmKeys(c *call) (reply, error) {
	all, err := a.Realm.Keys(c.Context())
	if err != nil {
		return reply{}, err
	}
	out := List[RealmKey]{Entries: []RealmKey{}}
	for _, k := range all {
		if k.State != realm.Deleted || c.param("deleted") == "true" {
			out.Entries = append(out.Entries, describeRealmKey(k, all))
		}
	}
	total := len(out.Entries)
	out.Total = &total
	return reply{body: out}, nil
}

func (a *api) showRealmKey(c *call) (reply, error) {
	k, err := a.Realm.Find(c.Context(), c.PathValue("id"))
	out, err := a.describeKey(c, k, err)
	return reply{body: out, revision: k.Revision}, err
}

func (a *api) addRealmKey(c *call) (reply, error) {
	var in struct {
		NewRealmKey
		Material      Text `json:"material"`
		StorePassword Text `json:"storePassword"`
		KeyPassword   Text `json:"keyPassword"`
	}
	defer func() { in.Material.Wipe(); in.StorePassword.Wipe(); in.KeyPassword.Wipe() }()
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	n := realm.NewKey{
		Name: in.Name, Provider: realm.Provider(in.Provider), Bits: in.Bits, Priority: in.Priority, Passive: in.Passive, Material: in.Material.Secret,
		Certificates: []byte(in.Certificates), Alias: in.Alias, StorePassword: in.StorePassword.Secret, KeyPassword: in.KeyPassword.Secret,
		Label: in.Label, AllowExpired: in.AllowExpired,
	}
	var err error
	if n.Use, err = realm.ParseUse(in.Use); err != nil {
		return reply{}, err
	}
	if in.Algorithm != "" {
		if n.Algorithm, err = realm.ParseAlgorithm(in.Algorithm); err != nil {
			return reply{}, err
		}
	}
	if n.Provider == realm.Keystore {
		b := make([]byte, base64.StdEncoding.DecodedLen(in.Material.Len()))
		size, err := base64.StdEncoding.Decode(b, in.Material.Bytes())
		n.Material = secret.New(b[:size])
		defer n.Material.Wipe()
		if err != nil {
			return reply{}, badRequest("the key store is not base64")
		}
	}
	k, err := a.Realm.Add(c.Context(), n, c.who.Name)
	out, err := a.describeKey(c, k, err)
	return reply{status: http.StatusCreated, body: out, location: "/realm/keys/" + string(k.ID), revision: k.Revision}, err
}

func (a *api) changeRealmKey(c *call) (reply, error) {
	var in RealmKeyChange
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	id, by := c.PathValue("id"), c.who.Name
	var k realm.Key
	var err error
	switch {
	case in.State != nil && in.Priority == nil && in.Certificates == nil:
		k, err = a.Realm.SetState(c.Context(), id, realm.State(*in.State), by)
	case in.State == nil && in.Priority != nil && in.Certificates == nil:
		k, err = a.Realm.SetPriority(c.Context(), id, *in.Priority, by)
	case in.State == nil && in.Priority == nil && in.Certificates != nil:
		k, err = a.Realm.SetCertificates(c.Context(), id, []byte(*in.Certificates), by)
	default:
		return reply{}, badRequest("State, Priority or Certificates says what to change, one of them")
	}
	out, err := a.describeKey(c, k, err)
	return reply{body: out, revision: k.Revision}, err
}

func (a *api) deleteRealmKey(c *call) (reply, error) {
	_, err := a.Realm.Delete(c.Context(), c.PathValue("id"), c.who.Name)
	return reply{}, err
}

func (a *api) rotateRealm(c *call) (reply, error) {
	var in struct {
		Use       string `json:"Use"`
		Algorithm string `json:"Algorithm"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	use, err := realm.ParseUse(in.Use)
	if err != nil {
		return reply{}, err
	}
	algorithm, err := realm.ParseAlgorithm(in.Algorithm)
	if err != nil {
		return reply{}, err
	}
	made, before, err := a.Realm.Rotate(c.Context(), use, algorithm, c.who.Name)
	if err != nil {
		return reply{}, err
	}
	all, err := a.Realm.Keys(c.Context())
	return reply{status: http.StatusCreated, body: RealmRotation{Made: describeRealmKey(made, all), Before: describeRealmKey(before, all)}}, err
}

func (a *api) compromiseRealmKey(c *call) (reply, error) {
	was, err := a.Realm.Compromised(c.Context(), c.PathValue("id"), c.who.Name)
	if err != nil {
		return reply{}, err
	}
	all, err := a.Realm.Keys(c.Context())
	if err != nil {
		return reply{}, err
	}
	out := RealmCompromise{Gone: describeRealmKey(was.Gone, all), NotBefore: millis(was.NotBefore), Clients: []RealmPush{}}
	if was.Made.ID != "" {
		made := describeRealmKey(was.Made, all)
		out.Made = &made
	}
	for _, p := range was.Pushes {
		out.Clients = append(out.Clients, RealmPush{Client: p.Client, Node: p.Node, URL: p.URL, Result: string(p.Result), Tries: p.Tries, Error: p.Err})
	}
	return reply{body: out}, nil
}

// maxDays bounds how far a calendar looks.
const maxDays = 3650

func (a *api) listCalendar(c *call) (reply, error) {
	days := 365
	if text := c.param("days"); text != "" {
		var err error
		if days, err = strconv.Atoi(text); err != nil || days < 1 || days > maxDays {
			return reply{}, badRequest("days %q is not a number from 1 to %d", text, maxDays)
		}
	}
	steps, err := a.calendar(c, days)
	if err != nil {
		return reply{}, err
	}
	total := len(steps)
	return reply{body: List[RealmStep]{Total: &total, Entries: steps}}, nil
}

func (a *api) calendar(c *call, days int) ([]RealmStep, error) {
	steps, err := a.Realm.Calendar(c.Context(), time.Now().AddDate(0, 0, days))
	out := []RealmStep{}
	for _, s := range steps {
		out = append(out, RealmStep{At: millis(s.At), Action: string(s.Action), Key: s.Name, KID: s.KID})
	}
	return out, err
}

func (a *api) showRealm(c *call) (reply, error) {
	rec, err := a.Realm.State(c.Context())
	if err != nil {
		return reply{}, err
	}
	out := RealmStatus{Issuer: a.Realm.Issuer(), Signing: []RealmKey{}, States: map[string]int{}, NotBefore: map[string]Millis{}}
	for u, t := range rec.NotBefore {
		out.NotBefore[string(u)] = millis(t)
	}
	if out.Nodes, out.Converged, err = a.realmNodes(c); err != nil {
		return reply{}, err
	}
	all := rec.Keys
	for _, k := range all {
		out.States[string(k.State)]++
		if realm.Signs(all, k) {
			out.Signing = append(out.Signing, describeRealmKey(k, all))
		}
	}
	steps, err := a.calendar(c, 365)
	if len(steps) > 0 {
		out.Next = &steps[0]
	}
	return reply{body: out}, err
}

func (a *api) realmNodes(c *call) ([]RealmNode, bool, error) {
	nodes, err := a.Realm.Nodes(c.Context())
	out, converged := []RealmNode{}, true
	for _, n := range nodes {
		out = append(out, RealmNode{Node: n.Node, State: string(n.State), Signing: n.Signing, Want: n.Want, Problem: n.Problem, Seen: millis(n.Seen)})
		converged = converged && (n.State == realm.Converged || n.State == realm.Silent)
	}
	return out, converged, err
}

// bearer is the token of a request; empty where there is none.
func bearer(r *http.Request) string {
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(text)
}
