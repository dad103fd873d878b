package wire

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// ServiceInfo is what a client learns from the address on a card (§11).
type ServiceInfo struct {
	XMLName    xml.Name `xml:"ServiceInfo"`
	IssuerName string   `xml:"IssuerName"` // shown to people, required
	Services   Services `xml:"Services"`
}

// Services are the addresses of a ServiceInfo; empty ones are unused.
type Services struct {
	// Operation is the server's address for cards, see [CheckOperation].
	Operation               string `xml:"Operation"`
	UI                      string `xml:"UI"`                      // enrollment page
	EnrolledTokenBrowserURL string `xml:"EnrolledTokenBrowserURL"` // opened when an enrolled card comes
	EnrolledTokenURL        string `xml:"EnrolledTokenURL"`        // shown after enrollment
	CAChainUI               string `xml:"CAChainUI,omitempty"`     // page with the CA chain
	TokenType               string `xml:"TokenType,omitempty"`     // profile for format
}

// PhoneHome serves info on /tps/phoneHome, to any client, GET or POST. It refuses
// an info that makes ESC fail.
func PhoneHome(info ServiceInfo) (http.Handler, error) {
	if err := info.check(); err != nil {
		return nil, fmt.Errorf("phone home: %w", err)
	}
	body, err := xml.MarshalIndent(info, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("phone home: %w", err)
	}
	body = append([]byte(xml.Header), append(body, '\n')...)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodPost:
		default:
			w.Header().Set("Allow", "GET, HEAD, POST")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	}), nil
}

func (i ServiceInfo) check() error {
	if strings.TrimSpace(i.IssuerName) == "" {
		return errors.New("IssuerName is empty")
	}
	return CheckOperation(i.Services.Operation)
}

// CheckOperation refuses an address of the protocol that ESC cannot read (§11): it
// needs scheme, host, explicit port and path.
func CheckOperation(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("the address for cards: %w", err)
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("the address for cards, %s, is not http or https", address)
	case strings.Contains(u.Host, "["):
		return fmt.Errorf("the address for cards, %s, has an IPv6 literal, which clients cannot read", address)
	case u.Hostname() == "" || u.Port() == "" || u.Path == "" || u.Path == "/":
		return fmt.Errorf("the address for cards, %s, lacks host, port or path: clients need all three, as in https://tps.example.org:8443%s", address, Path)
	}
	return nil
}
