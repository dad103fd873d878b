package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tps/api"
	"inkan/tps/token"
	"inkan/tps/wire"
)

func (p *program) tokenCommand() *cli.Command {
	return &cli.Command{
		Name:  "token",
		Usage: "records of cards",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list cards", Description: "   inkan token list --user ada\n   inkan token list --state ACTIVE --size 1000 --json",
				Flags: listFlags(
					&cli.StringFlag{Name: "user", Usage: "only cards of the person `NAME`"},
					&cli.StringFlag{Name: "state", Usage: "only cards in `STATE`: UNFORMATTED, FORMATTED, ACTIVE, SUSPENDED, DAMAGED, PERM_LOST, TERMINATED"},
					&cli.StringFlag{Name: "profile", Usage: "only cards with the profile `NAME`"},
					&cli.StringFlag{Name: "text", Usage: "only cards with `TEXT` in CUID or user"},
				),
				Action: p.listTokens,
			},
			{
				Name: "show", Usage: "show a card: record, certificates, unfinished operation, latest activities", ArgsUsage: "CUID",
				Description: "   inkan token show 40906145C76224192D2B", Action: p.showToken,
			},
			{
				Name: "set-state", Usage: "say that a card is lost, damaged, suspended or found", ArgsUsage: "CUID STATE",
				Description: "STATE                      the card's certificates           and the card\n" +
					"  suspended (temp_lost)    go on hold                        refuses every operation until it is found\n" +
					"  found                    are valid again                   is active as before\n" +
					"  lost (perm_lost)         are revoked, keyCompromise        never serves again\n" +
					"  damaged                  are revoked                       never serves again\n" +
					"  terminated               are revoked, keyCompromise        is given back\n" +
					"  reuse (unformatted)      stay as they are                  is nobody's, to be formatted; after terminated\n\n" +
					"A loss counts at once: if the authority does not answer, the node goes on asking it until it does. What is\n" +
					"revoked stays revoked, so that is asked before.\n\n" +
					"   inkan token set-state 40906145C76224192D2B suspended\n   inkan token set-state 40906145C76224192D2B lost --yes",
				Flags:  []cli.Flag{&cli.BoolFlag{Name: "yes", Usage: "do not ask"}},
				Action: p.setTokenState,
			},
			p.policyCommand(),
			p.ticketCommand(),
			{
				Name: "release", Usage: "let a card be keyed once more", ArgsUsage: "CUID",
				Description: "A card whose keys everybody knows is given keys of its own once: anybody could claim to be that card a\n" +
					"second time and be told its new keys. Release it only if you have the card in your hand, for example\n" +
					"after its maker has set it back.\n\n" +
					"   inkan token release 40906145C76224192D2B\n   inkan token release --kdd 00010203040506070809",
				Flags:  []cli.Flag{&cli.StringFlag{Name: "kdd", Usage: "key diversification `DATA` of a card without a record, in place of CUID"}},
				Action: p.releaseToken,
			},
			{
				Name: "secret", Usage: "show a PIV card's PUK or management key", ArgsUsage: "CUID",
				Description: "They are derived from the site's key set and stored nowhere. It takes an agent at the node itself, and is\n" +
					"in the audit record: who has the PUK can set the card's PIN.\n\n" +
					"   inkan token secret FFFF594B0000F0000001 --puk\n   inkan token secret FFFF594B0000F0000001 --management-key",
				Flags: []cli.Flag{&cli.BoolFlag{Name: "puk", Usage: "the PUK, eight digits"},
					&cli.BoolFlag{Name: "management-key", Usage: "the management key, in hexadecimal"}},
				Action: p.showSecret,
			},
		},
	}
}

func (p *program) listTokens(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if s := c.String("state"); s != "" {
		if _, err := token.ParseState(strings.ToUpper(s)); err != nil {
			return usageError{err}
		}
	}
	q, err := listQuery(c, map[string]string{"user": "userID", "state": "status", "profile": "type", "text": "filter"})
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var l api.List[api.Token]
		if err := r.get(c.Context, "/tokens", q, &l); err != nil {
			return err
		}
		return p.print(c, l, func(w io.Writer) {
			if len(l.Entries) == 0 {
				fmt.Fprintln(w, "No card.")
				return
			}
			table(w, "CUID\tSTATE\tUSER\tPROFILE\tKEYS\tCHANGED", len(l.Entries), func(i int) string {
				t := l.Entries[i]
				return strings.Join([]string{t.TokenID, t.Status.Name.Name, dash(t.UserID), dash(t.Type), dash(tokenKeys(t)), moment(t.ModifyTimestamp)}, "\t")
			})
			printMore(w, len(l.Entries), l.Total, l.Next)
		})
	})
}

// tokenKeys names the card's keys: key set and version.
func tokenKeys(t api.Token) string {
	if len(t.KeyInfo) < 2 {
		return t.KeySet
	}
	return strings.TrimSpace(t.KeySet + " " + t.KeyInfo[:2])
}

// tokenView is all that token show prints.
type tokenView struct {
	Token        api.Token         `json:"Token"`
	Certificates []api.Certificate `json:"Certificates"`
	Unfinished   *api.Operation    `json:"Unfinished,omitempty"`
	Keying       *api.Keying       `json:"Keying,omitempty"`
	Activities   []api.Activity    `json:"Activities"` // the latest, newest first
}

// latest is how many activities token show prints.
const latest = "10"

func (p *program) showToken(c *cli.Context) error {
	cuid, err := cuidArgument(c)
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		v, err := viewToken(c, r, cuid)
		if err != nil {
			return err
		}
		return p.print(c, v, func(w io.Writer) { printToken(w, v) })
	})
}

func cuidArgument(c *cli.Context) (apdu.CUID, error) {
	s, err := oneArgument(c, "CUID")
	if err != nil {
		return apdu.CUID{}, err
	}
	cuid, err := apdu.ParseCUID(s)
	if err != nil {
		return cuid, usageError{err}
	}
	return cuid, nil
}

func viewToken(c *cli.Context, r rest, cuid apdu.CUID) (v tokenView, err error) {
	path := "/tokens/" + cuid.String()
	if err := r.get(c.Context, path, nil, &v.Token); err != nil {
		return v, err
	}
	var certs api.List[api.Certificate]
	if err := r.get(c.Context, "/certs", url.Values{"tokenID": {cuid.String()}, "size": {"1000"}}, &certs); err != nil {
		return v, err
	}
	var open api.List[api.Operation]
	if err := r.get(c.Context, path+"/operations", url.Values{"open": {"true"}}, &open); err != nil {
		return v, err
	}
	if len(open.Entries) > 0 {
		v.Unfinished = &open.Entries[0]
	}
	var k api.Keying
	switch err := r.get(c.Context, path+"/keying", nil, &k); {
	case err == nil:
		v.Keying = &k
	case !isStatus(err, http.StatusNotFound):
		return v, err
	}
	var done api.List[api.Activity]
	if err := r.get(c.Context, "/activities", url.Values{"tokenID": {cuid.String()}, "size": {latest}}, &done); err != nil {
		return v, err
	}
	v.Certificates, v.Activities = certs.Entries, done.Entries
	return v, nil
}

func printToken(w io.Writer, v tokenView) {
	t := v.Token
	state := t.Status.Name.Name
	if t.Reason != "" {
		state += " (" + t.Reason + ")"
	}
	field(w, "Token", t.TokenID)
	field(w, "State", state)
	field(w, "Owner", dash(t.UserID))
	field(w, "Profile", t.Type)
	field(w, "Applet", t.AppletID)
	field(w, "Keys", tokenKeys(t))
	field(w, "KDD", t.KDD)
	field(w, "Applet keys", t.AppletKeys)
	field(w, "Policy", t.Policy)
	field(w, "Created", moment(t.CreateTimestamp))
	field(w, "Changed", moment(t.ModifyTimestamp))
	if k := v.Keying; k != nil {
		state := "not yet confirmed by the card"
		if k.Completed {
			state = "another one needs a release"
		}
		field(w, "Keyed", fmt.Sprintf("%s %s to %s %s on %s, %s", k.FromKeySet, k.FromVersion, k.KeySet, k.Version, moment(k.Time), state))
	}
	printUnfinished(w, v.Unfinished)
	if len(v.Certificates) > 0 {
		fmt.Fprintln(w, "\nCertificates")
		printCertificates(w, v.Certificates)
	}
	if len(v.Activities) > 0 {
		fmt.Fprintln(w, "\nLatest activities")
		printActivities(w, v.Activities)
	}
}

// printUnfinished says what was cut, whether the card is safe and what to do.
func printUnfinished(w io.Writer, o *api.Operation) {
	if o == nil {
		return
	}
	step := "before the first step"
	if n := len(o.Steps); n > 0 {
		step = "in step " + o.Steps[n-1].Name
		if o.Steps[n-1].Confirmed {
			step = "after step " + o.Steps[n-1].Name
		}
	}
	fmt.Fprintln(w)
	field(w, "Unfinished", fmt.Sprintf("%s by %s since %s, cut %s", o.Operation, dash(o.UserID), moment(o.Started), step))
	field(w, "Card", safety[o.Card].String())
	field(w, "Next", nextAction(*o))
}

// nextAction is what to do about an unfinished operation.
func nextAction(o api.Operation) string {
	if o.Card == api.CardDone {
		return "nothing: only records are missing, and the node writes them by itself"
	}
	return "insert the card and start " + o.Operation + " again to finish it; another operation rolls it back or finishes it first"
}

// safety says it in the words that card clients use.
var safety = map[api.CardState]wire.CardSafety{
	api.CardUnchanged: wire.CardUnchanged, api.CardCut: wire.CardResumable, api.CardDone: wire.CardUsable,
}

func (p *program) releaseToken(c *cli.Context) error {
	var in api.Release
	if kdd := c.String("kdd"); kdd != "" {
		if c.Args().Present() {
			return usagef("%s takes CUID or --kdd, not both", c.Command.FullName())
		}
		k, err := gp.ParseKDD(kdd)
		if err != nil {
			return usageError{err}
		}
		in.KDD = k.String()
	} else {
		cuid, err := cuidArgument(c)
		if err != nil {
			return err
		}
		in.TokenID = cuid.String()
	}
	return p.withNode(c, func(r rest) error {
		var out api.Release
		if err := r.post(c.Context, "/releases", in, &out); err != nil {
			return err
		}
		return p.print(c, out, func(w io.Writer) {
			card := out.TokenID
			if card == "" {
				card = "with KDD " + out.KDD
			}
			fmt.Fprintf(w, "Card %s is released: its keys may be changed once more from a published key set.\n", card)
		})
	})
}
