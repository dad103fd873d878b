package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"inkan/tps/api"
	"inkan/tps/realm"
)

func (p *program) realmStatus(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		s, err := realmConverged(c, r)
		if err != nil {
			return err
		}
		err = p.print(c, s, func(w io.Writer) {
			field(w, "Issuer", s.Issuer)
			for _, k := range s.Signing {
				field(w, k.Use+" "+k.Algorithm, k.Name+", kid "+k.KID)
			}
			var states []string
			for _, state := range []realm.State{realm.Pending, realm.Active, realm.Passive, realm.Disabled, realm.Deleted} {
				if n := s.States[string(state)]; n > 0 {
					states = append(states, fmt.Sprintf("%d %s", n, state))
				}
			}
			field(w, "Keys", strings.Join(states, ", "))
			for _, u := range slices.Sorted(maps.Keys(s.NotBefore)) {
				field(w, "Not before", u+": "+moment(s.NotBefore[u]))
			}
			if s.Next != nil {
				field(w, "Next", moment(s.Next.At)+": "+realmActions[s.Next.Action]+" "+s.Next.Key)
			}
			realmNodes(w, s)
		})
		if !s.Converged {
			return errors.Join(err, errors.New("the nodes have not converged"))
		}
		return err
	})
}

// realmConverged asks for the status, again where it is worth waiting.
func realmConverged(c *cli.Context, r rest) (api.RealmStatus, error) {
	for end := time.Now().Add(realmWait); ; {
		var s api.RealmStatus
		err := r.get(c.Context, "/realm", nil, &s)
		if err != nil || s.Converged || !c.Bool("wait") || time.Now().After(end) {
			return s, err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-c.Context.Done():
			return s, c.Context.Err()
		}
	}
}

// realmWait is how long status --wait waits.
const realmWait = 30 * time.Second

// realmNodes prints what each node signs with.
func realmNodes(w io.Writer, s api.RealmStatus) {
	type line struct{ node, use, kid, state string }
	var lines []line
	for _, n := range s.Nodes {
		for _, use := range slices.Sorted(maps.Keys(n.Want)) {
			state := n.State
			if n.Signing[use] != n.Want[use] {
				state += ", should be " + n.Want[use]
			}
			lines = append(lines, line{n.Node, use, dash(n.Signing[use]), state})
		}
		if n.Problem != "" {
			lines = append(lines, line{n.Node, "", "", n.Problem})
		}
	}
	if len(lines) == 0 {
		return
	}
	fmt.Fprintln(w)
	table(w, "NODE\tSIGNS\tKID\tSTATE", len(lines), func(i int) string {
		l := lines[i]
		return strings.Join([]string{l.node, l.use, l.kid, l.state}, "\t")
	})
	if s.Converged {
		fmt.Fprintln(w, "CONVERGED")
	}
}
