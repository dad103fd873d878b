package scp02

import (
	"crypto/subtle"
	"fmt"

	"inkan/apdu"
	"inkan/securechannel/internal/class"
	"inkan/securechannel/primitive"
)

// WrapResponse gives a response its R-MAC (§E.4.5). plain is the command it
// answers, without secure messaging. An error status, that is any but 9000,
// 62xx and 63xx, loses its data; whether its R-MAC is delivered is the card's
// choice, the chain moves on in any case. At a level without R-MAC the response
// comes back as it is.
func (c Channel) WrapResponse(chain Chain, plain apdu.Command, r apdu.Response) (apdu.Response, Chain, error) {
	if c.Level&LevelRMAC == 0 {
		return r, chain, nil
	}
	if !carriesData(r.SW) {
		r.Data = nil
	}
	mac, err := c.rmac(chain, plain, r)
	if err != nil {
		return apdu.Response{}, chain, fmt.Errorf("wrapping response: %w", err)
	}
	r.Data = append(r.Data[:len(r.Data):len(r.Data)], mac[:]...)
	return r, NewChain(mac), nil
}

// UnwrapResponse verifies and strips the R-MAC of a response. An error status
// may come with an R-MAC or bare: cards differ. After an error of this function
// the session has to be aborted.
func (c Channel) UnwrapResponse(chain Chain, plain apdu.Command, r apdu.Response) (apdu.Response, Chain, error) {
	if c.Level&LevelRMAC == 0 {
		return r, chain, nil
	}
	data, got := r.Data, []byte(nil)
	if n := len(data) - MACLength; n >= 0 {
		data, got = data[:n:n], data[n:]
	}
	mac, err := c.rmac(chain, plain, apdu.Response{Data: data, SW: r.SW})
	if err != nil {
		return apdu.Response{}, chain, fmt.Errorf("unwrapping response: %w", err)
	}
	out := apdu.Response{Data: data, SW: r.SW}
	if !carriesData(r.SW) && len(r.Data) == 0 {
		return out, NewChain(mac), nil
	}
	if got == nil {
		return apdu.Response{}, chain, fmt.Errorf("unwrapping response: %w", errNoMAC)
	}
	if subtle.ConstantTimeCompare(mac[:], got) != 1 {
		return apdu.Response{}, chain, fmt.Errorf("unwrapping response: %w", errMAC)
	}
	return out, NewChain(mac), nil
}

// rmac is the R-MAC over plain command and plain response; Li is the response
// length modulo 256.
func (c Channel) rmac(chain Chain, plain apdu.Command, r apdu.Response) ([MACLength]byte, error) {
	head := []byte{class.Basic(plain.CLA), plain.INS, plain.P1, plain.P2}
	head = appendLength(head, len(plain.Data), len(plain.Data) > apdu.MaxShortData)
	mac, err := primitive.RetailMAC(c.RMAC, chain.mac[:], head, plain.Data,
		[]byte{byte(len(r.Data))}, r.Data, []byte{r.SW.SW1(), r.SW.SW2()})
	if err != nil {
		return [MACLength]byte{}, err
	}
	return [MACLength]byte(mac), nil
}

// carriesData reports whether a status is one under which data are returned.
func carriesData(sw apdu.StatusWord) bool { return sw == apdu.SWSuccess || sw.IsWarning() }
