package scp03

import (
	"crypto/subtle"
	"fmt"

	"inkan/apdu"
	"inkan/securechannel/primitive"
)

// WrapResponse gives a response the R-ENCRYPTION and R-MAC of the channel's
// level (§6.2.5, §6.2.7). chain is the one after the command that is answered.
// An error status, that is any but 9000, 62xx and 63xx, is returned bare.
func (c Channel) WrapResponse(chain Chain, r apdu.Response) (apdu.Response, error) {
	if c.Level&LevelRMAC == 0 {
		return r, nil
	}
	if !protected(r.SW) {
		return apdu.Response{SW: r.SW}, nil
	}
	data := r.Data
	if c.Level&LevelRENC != 0 && len(data) > 0 {
		var err error
		if data, err = c.encrypt(chain.Counter, fromCard, data); err != nil {
			return apdu.Response{}, fmt.Errorf("wrapping response: %w", err)
		}
	}
	mac, err := c.rmac(chain, data, r.SW)
	if err != nil {
		return apdu.Response{}, fmt.Errorf("wrapping response: %w", err)
	}
	return apdu.Response{Data: append(data[:len(data):len(data)], mac...), SW: r.SW}, nil
}

// UnwrapResponse verifies and decrypts a response. chain is the one after the
// command that is answered. After an error the session has to be aborted.
func (c Channel) UnwrapResponse(chain Chain, r apdu.Response) (apdu.Response, error) {
	if c.Level&LevelRMAC == 0 {
		return r, nil
	}
	if !protected(r.SW) {
		if len(r.Data) != 0 {
			return apdu.Response{}, fmt.Errorf("unwrapping response: %w", errData)
		}
		return r, nil
	}
	n := len(r.Data) - c.Option.Size()
	if n < 0 {
		return apdu.Response{}, fmt.Errorf("unwrapping response: %w", errNoMAC)
	}
	data, got := r.Data[:n:n], r.Data[n:]
	mac, err := c.rmac(chain, data, r.SW)
	if err != nil {
		return apdu.Response{}, fmt.Errorf("unwrapping response: %w", err)
	}
	if subtle.ConstantTimeCompare(mac, got) != 1 {
		return apdu.Response{}, fmt.Errorf("unwrapping response: %w", errMAC)
	}
	if c.Level&LevelRENC != 0 && n > 0 {
		if data, err = c.decrypt(chain.Counter, fromCard, data); err != nil {
			return apdu.Response{}, fmt.Errorf("unwrapping response: %w", err)
		}
	}
	return apdu.Response{Data: data, SW: r.SW}, nil
}

func (c Channel) rmac(chain Chain, data []byte, sw apdu.StatusWord) ([]byte, error) {
	mac, err := primitive.CMAC(c.RMAC, chain.MAC[:], data, []byte{sw.SW1(), sw.SW2()})
	if err != nil {
		return nil, err
	}
	return mac[:c.Option.Size()], nil
}

// protected reports whether a response with this status carries an R-MAC.
func protected(sw apdu.StatusWord) bool { return sw == apdu.SWSuccess || sw.IsWarning() }
