package profile

import (
	"embed"
	"strings"

	"inkan/tps/token"
)

//go:embed shipped/*.toml
var shipped embed.FS

// Shipped returns the profiles that come with Inkan (tps-operations.md §13.6,
// §18), enabled and without revision, ready for Store.PutProfile. Those for a
// lab leave a card's keys alone, take cards from anyone and renew at any time: a
// trial must not bind a real card to a throw-away key.
func Shipped(lab bool) []Record {
	names := []token.ProfileName{"cleanToken", "soKey", "tokenKey", "userKey", "userSigningKey", "pivUser"}
	var all []Record
	for _, name := range names {
		document, err := shipped.ReadFile("shipped/" + string(name) + ".toml")
		if err != nil {
			panic(err) // embedded
		}
		r := Record{Name: name, State: Enabled, Document: string(document)}
		if lab {
			r.Document = forLab.Replace(r.Document)
		}
		all = append(all, r)
	}
	return all
}

var forLab = strings.NewReplacer(
	"\nversion = 2\n", "\nversion = 0\n",
	"\nversion = \"1.4.58768072\"\n", "\nversion = \"1.4.66000001\"\n", // the synthetic load file that comes with Inkan
	"\nbefore = 30\n", "\nbefore = 0\n", // a trial does not wait until its certificates end
	"\nallow_unknown = \"operator\"\n", "\nallow_unknown = \"anyone\"\n")
