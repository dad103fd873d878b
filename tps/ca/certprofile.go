package ca

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// SANRule says whether a name of the person goes into the subject alternative name.
type SANRule int

// Rules. The zero value leaves the name out.
const (
	Omit     SANRule = iota
	IfKnown          // taken if the person has one
	Required         // refused if the person has none
)

// CertProfile is what a certificate of one kind contains.
type CertProfile struct {
	Name    string
	Aliases []string // other names a request may use, such as those of Dogtag's profiles
	// RSAUsage and ECUsage are the key usage by kind of key; 0 refuses that kind.
	RSAUsage, ECUsage x509.KeyUsage
	ExtKeyUsage       []asn1.ObjectIdentifier
	Mail, UPN         SANRule
	Validity          time.Duration // never beyond the authority's own certificate
	MinRSABits        int           // 0 = 2048
}

// Extended key usages: RFC 5280 §4.2.1.12 and, for smart-card logon, MS-WCCE.
var (
	oidServerAuth     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	oidClientAuth     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	oidMailProtection = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4}
	oidSmartcardLogon = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 2}
)

const (
	day            = 24 * time.Hour
	cardValidity   = 3 * 365 * day
	tempValidity   = 7 * day
	serverValidity = 397 * day
)

// Names of the shipped certificate profiles. The temporary ones are the others
// with a validity of seven days.
const (
	ProfileSigning                 = "signing"
	ProfileEncryption              = "encryption"
	ProfileAuthentication          = "authentication"
	ProfileTemporarySigning        = "temporary-signing"
	ProfileTemporaryEncryption     = "temporary-encryption"
	ProfileTemporaryAuthentication = "temporary-authentication"
)

// ShippedProfiles returns the profiles an [Embedded] has without configuration.
// Each call returns a new list.
func ShippedProfiles() []CertProfile {
	signing := CertProfile{
		Name: ProfileSigning,
		Aliases: []string{
			"caTokenUserSigningKeyEnrollment", "caTokenUserSigningKeyRenewal", "caTokenUserDelegateSigningKeyEnrollment",
		},
		RSAUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
		ECUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
		ExtKeyUsage: []asn1.ObjectIdentifier{oidClientAuth, oidMailProtection},
		Mail:        IfKnown,
		UPN:         IfKnown,
		Validity:    cardValidity,
	}
	encryption := CertProfile{
		Name:        ProfileEncryption,
		Aliases:     []string{"caTokenUserEncryptionKeyEnrollment", "caTokenUserEncryptionKeyRenewal"},
		RSAUsage:    x509.KeyUsageKeyEncipherment,
		ECUsage:     x509.KeyUsageKeyAgreement,
		ExtKeyUsage: []asn1.ObjectIdentifier{oidMailProtection},
		Mail:        IfKnown,
		Validity:    cardValidity,
	}
	authentication := CertProfile{
		Name: ProfileAuthentication,
		Aliases: []string{
			"caTokenUserAuthenticationKeyEnrollment", "caTokenUserAuthKeyRenewal", "caTokenUserDelegateAuthKeyEnrollment",
		},
		RSAUsage:    x509.KeyUsageDigitalSignature,
		ECUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []asn1.ObjectIdentifier{oidClientAuth, oidSmartcardLogon},
		Mail:        IfKnown,
		UPN:         IfKnown,
		Validity:    cardValidity,
	}
	return []CertProfile{
		signing, encryption, authentication,
		temporary(signing, ProfileTemporarySigning, "caTempTokenUserSigningKeyEnrollment"),
		temporary(encryption, ProfileTemporaryEncryption, "caTempTokenUserEncryptionKeyEnrollment"),
		temporary(authentication, ProfileTemporaryAuthentication, "caTempTokenDeviceKeyEnrollment"),
	}
}

func temporary(p CertProfile, name string, aliases ...string) CertProfile {
	p.Name, p.Aliases, p.Validity = name, aliases, tempValidity
	return p
}

func (p CertProfile) validate() error {
	switch {
	case p.Name == "":
		return errors.New("certificate profile without name")
	case p.RSAUsage == 0 && p.ECUsage == 0:
		return fmt.Errorf("certificate profile %s allows no kind of key", p.Name)
	case (p.RSAUsage|p.ECUsage)&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return fmt.Errorf("certificate profile %s would make authorities", p.Name)
	case p.Validity <= 0:
		return fmt.Errorf("certificate profile %s has no validity", p.Name)
	case p.MinRSABits < 0 || p.MinRSABits > maxRSABits:
		return fmt.Errorf("certificate profile %s: least RSA size %d bits", p.Name, p.MinRSABits)
	}
	return nil
}

// profileTable indexes profiles by name and alias. A later profile of the same
// name replaces the earlier one; two profiles never share a name otherwise.
func profileTable(extra []CertProfile) (map[string]CertProfile, error) {
	table := map[string]CertProfile{}
	shipped := slices.DeleteFunc(ShippedProfiles(), func(s CertProfile) bool {
		return slices.ContainsFunc(extra, func(e CertProfile) bool { return e.Name == s.Name })
	})
	for _, p := range append(shipped, extra...) {
		if err := p.validate(); err != nil {
			return nil, err
		}
		for _, name := range append([]string{p.Name}, p.Aliases...) {
			if other, taken := table[name]; taken {
				return nil, fmt.Errorf("certificate profiles %s and %s share the name %s", other.Name, p.Name, name)
			}
			table[name] = p
		}
	}
	return table, nil
}
