package cli

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/cli/server"
	"inkan/tps/api"
	"inkan/tps/audit"
)

func (p *program) auditCommand() *cli.Command {
	return &cli.Command{
		Name:  "audit",
		Usage: "the record of who did what: is it the one that was written, and a copy for auditors",
		Description: "Each line has the hash of the line before it, and a checkpoint every 15 minutes or 1000 events is signed by a\n" +
			"realm key of use audit, whose public half stays on record for ever.",
		Subcommands: []*cli.Command{
			{
				Name: "verify", Usage: "check the chain of hashes and every signature",
				Description: "Exit status 1 where a line was changed, removed, added or moved, or the end was cut off that was signed.\n" +
					"With --export it checks a copy, and needs no node.\n\n" +
					"   inkan audit verify\n   inkan audit verify --export /media/audit-2026-11",
				Flags:  []cli.Flag{&cli.StringFlag{Name: "export", Usage: "check the copy in `FOLDER`"}},
				Action: p.verifyAudit,
			},
			{
				Name: "export", Usage: "copy the record and the public keys that check it to a new folder",
				Description: "   inkan audit export --to /media/audit-2026-11",
				Flags:       []cli.Flag{&cli.StringFlag{Name: "to", Usage: "new `FOLDER` on the node's machine"}},
				Action:      p.exportAudit,
			},
		},
	}
}

func (p *program) verifyAudit(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if folder := c.String("export"); folder != "" {
		proof, err := server.ProveExport(folder)
		if err != nil && !errors.Is(err, audit.ErrTampered) {
			return err
		}
		return p.auditProof(c, api.NewAuditProof(proof, err))
	}
	return p.withNode(c, func(r rest) error {
		var out api.AuditProof
		if err := r.get(c.Context, "/audit", nil, &out); err != nil {
			return err
		}
		return p.auditProof(c, out)
	})
}

func (p *program) exportAudit(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	to := c.String("to")
	if to == "" {
		return usagef("%s needs --to: a new folder", c.Command.FullName())
	}
	return p.withNode(c, func(r rest) error {
		var out api.AuditProof
		body := map[string]string{"Path": absolute(to)}
		if err := r.post(c.Context, "/audit/export", body, &out); err != nil {
			return err
		}
		return p.auditProof(c, out)
	})
}

func (p *program) auditProof(c *cli.Context, a api.AuditProof) error {
	err := p.print(c, a, func(w io.Writer) {
		if a.Path != "" {
			field(w, "Copy", a.Path)
		}
		field(w, "Events", strconv.FormatInt(a.Events, 10))
		if a.Events > 0 {
			field(w, "From", moment(a.First))
			field(w, "To", moment(a.Last))
			field(w, "Head", a.Head)
		}
		field(w, "Checkpoints", strconv.FormatInt(a.Checkpoints, 10))
		if a.Signed > 0 {
			field(w, "Signed", fmt.Sprintf("up to event %d, at %s, by %s", a.Signed, moment(a.SignedAt), strings.Join(a.KIDs, ", ")))
		}
		field(w, "Behind it", fmt.Sprintf("%d events, which the chain alone covers", a.Unsigned))
		for _, d := range a.Doubts {
			field(w, "Doubt", d)
		}
	})
	if a.Problem != "" {
		return errors.Join(fmt.Errorf("%s: keep what is there, and compare it with a backup or an export", a.Problem), err)
	}
	return err
}
