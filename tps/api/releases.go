package api

import (
	"errors"
	"net/http"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tps/token"
)

// Release lets a card be keyed once more from a published key set. One of TokenID
// and KDD says which card.
type Release struct {
	TokenID string `json:"TokenID,omitempty"`
	KDD     string `json:"KDD,omitempty"`
	// Keying is what the card is released from; in answers only.
	Keying *Keying `json:"Keying,omitempty"`
}

func (a *api) release(c *call) (reply, error) {
	var in struct {
		TokenID string `json:"TokenID"`
		KDD     string `json:"KDD"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	cuid, kdd, err := a.releasedCard(c, in.TokenID, in.KDD)
	if err != nil {
		return reply{}, err
	}
	if !cuid.IsZero() {
		c.event.CUID = cuid.String()
	}
	if err := a.intend(c, map[string]string{"op": "release", "kdd": kdd.String()}); err != nil {
		return reply{}, err
	}
	was, ok, err := a.Keyings.Keying(c.Context(), kdd)
	if err == nil && !ok {
		err = token.ErrNotFound
	}
	if err == nil {
		err = a.Keyings.Release(c.Context(), kdd, c.who.Name)
	}
	if errors.Is(err, token.ErrNotFound) {
		err = refuse(http.StatusConflict, "the card has not been keyed from a published key set since its last release, there is nothing to release")
	}
	if !cuid.IsZero() {
		a.noteModified(c, token.Activity{CUID: cuid}, "released: its keys may be changed once more from a published key set", err)
	}
	if err != nil {
		return reply{}, err
	}
	out := Release{KDD: kdd.String(), Keying: &was}
	if !cuid.IsZero() {
		out.TokenID = cuid.String()
	}
	return reply{status: http.StatusCreated, body: out}, nil
}

// releasedCard finds the CUID (zero where there is no record) and the KDD.
func (a *api) releasedCard(c *call, tokenID, text string) (apdu.CUID, gp.KDD, error) {
	if (tokenID == "") == (text == "") {
		return apdu.CUID{}, gp.KDD{}, badRequest("TokenID or KDD says which card, one of them")
	}
	if text != "" {
		kdd, err := gp.ParseKDD(text)
		if err != nil {
			return apdu.CUID{}, kdd, badRequest("%q is not a KDD, 20 hexadecimal digits", text)
		}
		t, err := a.Tokens.TokenByKDD(c.Context(), kdd)
		if errors.Is(err, token.ErrNotFound) {
			err = nil
		}
		return t.CUID, kdd, err
	}
	cuid, err := parseCUID(tokenID)
	if err != nil {
		return cuid, gp.KDD{}, err
	}
	t, err := a.Tokens.Token(c.Context(), cuid)
	if err != nil {
		return cuid, gp.KDD{}, missing(err, "there is no token %s", cuid)
	}
	if t.KDD == nil {
		return cuid, gp.KDD{}, refuse(http.StatusConflict, "card %s has never opened a secure channel here, there is nothing to release", cuid)
	}
	return cuid, *t.KDD, nil
}
