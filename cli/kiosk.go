package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"inkan/apdu"
	"inkan/cli/kiosk"
	"inkan/pcsc"
)

func (p *program) kioskCommand() *cli.Command {
	return &cli.Command{
		Name:  "kiosk",
		Usage: "full-screen enrollment station: insert a card, follow it",
		Description: "Serves all readers of this machine at once, or those named. Every card that is inserted is looked at, the\n" +
			"person at the desk chooses what to do with it and is led through it. A card that is pulled out too early is\n" +
			"finished when it is back. Ctrl-C leaves; running operations are ended in order.\n\n" +
			"   inkan kiosk --server https://tps.example:8443\n" +
			"   inkan kiosk --server https://tps.example:8443 --profile userKey --reader HID --log kiosk.log\n" +
			"   inkan kiosk --server https://localhost:8443 --sim one.img --sim two.img    # software cards, no reader",
		Flags: append(serverFlags(),
			&cli.StringSliceFlag{Name: "reader", Usage: "`NAME` of a reader to serve, or the beginning of it; may be repeated; default: all"},
			&cli.StringSliceFlag{Name: "sim", Usage: "image `FILE` of a software card, instead of readers; may be repeated"},
			&cli.StringFlag{Name: "log", Usage: "`FILE` to which cards and operations are logged, never what is typed"},
		),
		Action: p.runKiosk,
	}
}

func (p *program) runKiosk(c *cli.Context) (err error) {
	if err := noArguments(c); err != nil {
		return err
	}
	if c.String("server") == "" {
		return usagef("%s needs --server", c.Command.FullName())
	}
	if len(c.StringSlice("sim")) > 0 && len(c.StringSlice("reader")) > 0 {
		return usagef("give readers or software cards, not both")
	}
	batch, err := parseBatch(c.String("batch-apdus"))
	if err != nil {
		return err
	}
	if !p.isTerminal() {
		return fmt.Errorf("the kiosk fills a screen: %w", errNoTerminal)
	}
	if err := reachable(c.Context, c.StringSlice("sim")); err != nil {
		return err
	}
	client, err := p.serverOf(c).Client(c.Context)
	if err != nil {
		return err
	}
	cfg := kiosk.Config{
		In: p.in, Out: p.out, Client: client, Profile: c.String("profile"), Batch: batch, Version: clientVersion(),
		Readers: c.StringSlice("reader"), Images: c.StringSlice("sim"),
	}
	if name := c.String("log"); name != "" {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("opening the log: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		cfg.Log = slog.New(slog.NewTextHandler(f, nil))
	}
	return kiosk.Run(c.Context, cfg)
}

// isTerminal reports that questions can be asked and a screen be drawn.
func (p *program) isTerminal() bool {
	_, in := p.terminal()
	f, ok := p.out.(*os.File)
	return in && ok && term.IsTerminal(int(f.Fd()))
}

// reachable refuses what would never show a card: a build without readers, and
// images that are not there. A service that is not there yet is waited for.
func reachable(ctx context.Context, images []string) error {
	for _, image := range images {
		if _, err := os.Stat(image); err != nil {
			return fmt.Errorf("there is no software card %s: make one with inkan sim new --image %s", image, image)
		}
	}
	if len(images) > 0 {
		return nil
	}
	svc, err := pcsc.Open(ctx)
	if err == nil {
		return svc.Close()
	}
	if errors.Is(err, apdu.ErrUnsupported) {
		return err
	}
	return nil
}
